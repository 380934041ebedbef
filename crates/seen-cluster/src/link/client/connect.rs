//! From an address to a link that is open.

use std::io;

use futures_util::future::BoxFuture;
use seen_proto::v1;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{ClientOptions, Connector};
use crate::link::frame::{FrameKind, FrameReader};
use crate::link::hello::check_welcome;
use crate::link::socket::{Socket, io_cut, read_frame};
use crate::link::{Cut, LinkError, control};
use crate::tls::ClientTls;

/// Connects over TCP, and TLS where that is asked for.
struct Tcp {
    address: String,
    tls: Option<(ClientTls, String)>,
}

/// Connects as the options say.
pub(in crate::link) fn tcp(options: &ClientOptions) -> impl Connector {
    let address = options.address.clone();
    let host = address.rsplit_once(':').map_or(&*address, |(host, _)| host);
    let name = options.tls_name.as_deref().unwrap_or(host);
    // As an address of IPv6 stands before a port.
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    Tcp { tls: options.tls.clone().map(|tls| (tls, name)), address }
}

impl Tcp {
    async fn open(&self) -> Result<Box<dyn Socket>, Cut> {
        let stream = TcpStream::connect(&self.address).await.map_err(io_cut("connecting"))?;
        stream.set_nodelay(true).map_err(io_cut("setting TCP_NODELAY"))?;
        let Some((tls, name)) = &self.tls else { return Ok(Box::new(stream)) };
        Ok(Box::new(tls.connect(name, stream).await.map_err(io_cut("the TLS handshake"))?))
    }
}

impl Connector for Tcp {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Socket>, Cut>> {
        Box::pin(self.open())
    }
}

/// A connection whose hello was welcomed.
pub(in crate::link) struct Opened {
    pub stream: Box<dyn Socket>,
    /// May hold frames that followed the welcome.
    pub reader: FrameReader,
    pub hello: v1::LinkHello,
    pub identity: v1::ReplicaIdentity,
    pub state: v1::ReplicaState,
    pub credit_bytes: u64,
}

/// Connects and says hello, within the options' time.
pub(in crate::link) async fn open(
    connector: &dyn Connector,
    options: &ClientOptions,
) -> Result<Opened, Cut> {
    let limit = options.connect_timeout;
    let opened = async { say_hello(connector.connect().await?, (options.hello)()).await };
    match timeout(limit, opened).await {
        Err(_) => Err(Cut::Late { what: "connecting and the hello", limit }),
        Ok(opened) => opened,
    }
}

async fn say_hello(mut stream: Box<dyn Socket>, hello: v1::LinkHello) -> Result<Opened, Cut> {
    let mut out = Vec::new();
    control::put_hello(&mut out, &hello);
    let said: io::Result<()> = async {
        stream.write_all(&out).await?;
        stream.flush().await
    }
    .await;
    said.map_err(io_cut("saying hello"))?;
    let mut reader = FrameReader::default();
    let (kind, payload) = read_frame(&mut *stream, &mut reader).await?;
    match kind {
        FrameKind::Welcome => {
            let welcome = control::welcome(payload)?;
            let identity = check_welcome(&hello, &welcome)
                .map_err(|refusal| Cut::Refused(Box::new(refusal)))?;
            let state = welcome.state.unwrap_or_default();
            let credit_bytes = welcome.credit_bytes;
            Ok(Opened { stream, reader, hello, identity, state, credit_bytes })
        }
        FrameKind::Refusal => Err(Cut::Refused(Box::new(control::refusal(payload)?))),
        kind => Err(LinkError::Unexpected { kind, when: "as the answer to a hello" }.into()),
    }
}
