//! The rival of a Filter: what tonic costs by itself. Its generated service lets prost decode the
//! same request into a `Vec<u64>` and sends an answer of the same size, and does nothing else.

use std::hint::black_box;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use clap::Args;
use futures_util::Stream;
use seen_cluster::tls::ServerTls;
use seen_proto::v1;
use seen_proto::v1::seen_service_server::{SeenService, SeenServiceServer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpIncoming};
use tonic::{Request, Response, Status, Streaming};

use super::certificates;
use super::serve::stop_at_end_of_input;
use crate::cli::CliError;
use crate::shutdown::Stop;

/// How the echo is started.
#[derive(Clone, Debug, Args)]
pub struct EchoSpec {
    /// Serving threads, each with a runtime and a port of its own
    #[arg(long)]
    threads: u16,
    /// Length of its answers, their gRPC prefix apart
    #[arg(long)]
    reply_bytes: usize,
    /// Folder with certificates; none = without TLS
    #[arg(long)]
    tls: Option<PathBuf>,
}

/// Field key and length before the bytes of an answer, for lengths of 128 to 16,383.
const FIELD_BYTES: usize = 3;

#[derive(Clone, Debug)]
struct Echo {
    padding: usize,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn unknown<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("this is an echo of Filter"))
}

#[tonic::async_trait]
impl SeenService for Echo {
    async fn filter(
        &self,
        request: Request<v1::FilterRequest>,
    ) -> Result<Response<v1::FilterResponse>, Status> {
        black_box(&request.get_ref().candidates);
        // Bytes cost prost less than positions would.
        let token = vec![0; self.padding];
        Ok(Response::new(v1::FilterResponse { token, ..Default::default() }))
    }

    type FilterStreamStream = Answers<v1::FilterStreamResponse>;

    async fn filter_stream(
        &self,
        _: Request<Streaming<v1::FilterStreamRequest>>,
    ) -> Result<Response<Self::FilterStreamStream>, Status> {
        unknown()
    }

    type FilterUsersStream = Answers<v1::FilterUsersResponse>;

    async fn filter_users(
        &self,
        _: Request<Streaming<v1::FilterUsersRequest>>,
    ) -> Result<Response<Self::FilterUsersStream>, Status> {
        unknown()
    }

    async fn mark(
        &self,
        _: Request<v1::MarkRequest>,
    ) -> Result<Response<v1::MarkResponse>, Status> {
        unknown()
    }

    type MarkStreamStream = Answers<v1::MarkStreamResponse>;

    async fn mark_stream(
        &self,
        _: Request<Streaming<v1::MarkStreamRequest>>,
    ) -> Result<Response<Self::MarkStreamStream>, Status> {
        unknown()
    }

    async fn unmark(
        &self,
        _: Request<v1::UnmarkRequest>,
    ) -> Result<Response<v1::UnmarkResponse>, Status> {
        unknown()
    }

    async fn forget(
        &self,
        _: Request<v1::ForgetRequest>,
    ) -> Result<Response<v1::ForgetResponse>, Status> {
        unknown()
    }

    async fn history(
        &self,
        _: Request<v1::HistoryRequest>,
    ) -> Result<Response<v1::HistoryResponse>, Status> {
        unknown()
    }

    async fn explain(
        &self,
        _: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        unknown()
    }
}

/// Serves until standard input closes.
///
/// # Errors
/// A port or thread that is refused.
pub fn run(spec: &EchoSpec) -> Result<(), CliError> {
    let stop = Stop::default();
    stop_at_end_of_input(stop.clone())?;
    let echo = Echo { padding: spec.reply_bytes.saturating_sub(FIELD_BYTES) };
    let tls = spec.tls.as_deref().map(certificates::server).transpose()?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    let mut threads = Vec::new();
    for _ in 0..spec.threads.max(1) {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        addresses.push(listener.local_addr()?);
        let service = SeenServiceServer::new(echo.clone());
        let (tls, stop) = (tls.clone(), stop.clone());
        threads.push(std::thread::spawn(move || {
            let router = Server::builder().add_service(service);
            runtime.block_on(async move {
                let Some(tls) = tls else {
                    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                    return router.serve_with_incoming_shutdown(incoming, stop.requested()).await;
                };
                let incoming = secured(listener, tls);
                router.serve_with_incoming_shutdown(incoming, stop.requested()).await
            })
        }));
    }
    crate::cli::print(&format!("{}\n", serde_json::json!({ "api": addresses })))?;
    for thread in threads {
        thread.join().map_err(|_| "a thread of the echo panicked")??;
    }
    Ok(())
}

/// A connection within TLS: that of the public port, by the same provider.
struct Secured(tokio_rustls::server::TlsStream<TcpStream>);

impl Connected for Secured {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

/// Connections whose handshakes are done.
fn secured(listener: TcpListener, tls: ServerTls) -> ReceiverStream<io::Result<Secured>> {
    let (sender, accepted) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, sender) = (tls.clone(), sender.clone());
            tokio::spawn(async move {
                let nodelay = stream.set_nodelay(true);
                let secured = tls.accept(stream).await.map(Secured);
                // The server is gone.
                let _ = sender.send(nodelay.and(secured)).await;
            });
        }
    });
    ReceiverStream::new(accepted)
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
