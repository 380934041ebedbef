//! The same service behind each front: tonic's own server, and ours.

use std::net::SocketAddr;

use seen_api::SeenGrpc;
use seen_cluster::tls::ServerTls;
use seen_proto::FILE_DESCRIPTOR_SET;
use seen_server::config::ServerConfig;
use seen_server::serving::{Drained, Front, Served, ServingOptions};
use seen_server::shutdown::Stop;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;

use super::script::Script;

/// A front that serves.
pub struct Stage {
    pub name: &'static str,
    pub address: SocketAddr,
    pub script: Script,
    pub stop: Stop,
    served: JoinHandle<Option<Drained>>,
}

/// What our front serves.
#[derive(Clone)]
struct Api {
    script: Script,
    routes: Routes,
}

impl Served for Api {
    type Calls = Script;
    type Others = Routes;
    type Body = tonic::body::Body;

    fn calls(&self) -> &Script {
        &self.script
    }

    fn others(&self) -> Routes {
        self.routes.clone()
    }
}

/// Options with one thread.
pub fn options() -> ServingOptions {
    ServingOptions { threads: 1, ..ServingOptions::from(&ServerConfig::default()) }
}

fn routes(script: &Script) -> Routes {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("descriptors that parse");
    Routes::new(SeenGrpc::new(script.clone())).add_service(reflection).prepare()
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

impl Stage {
    /// Tonic's own server.
    pub async fn tonic() -> Self {
        let (script, stop) = (Script::new(), Stop::default());
        let (listener, address) = listener().await;
        let incoming = TcpListenerStream::new(listener);
        let server = Server::builder().add_routes(routes(&script));
        let stopped = stop.clone();
        let served = tokio::spawn(async move {
            let stopped = async { stopped.requested().await };
            server.serve_with_incoming_shutdown(incoming, stopped).await.expect("it serves");
            None
        });
        Self { name: "tonic", address, script, stop, served }
    }

    /// Our front.
    pub async fn hot(options: ServingOptions) -> Self {
        Self::hot_with(options, None).await
    }

    /// Our front, with certificates.
    pub async fn hot_with(options: ServingOptions, tls: Option<ServerTls>) -> Self {
        let (script, stop) = (Script::new(), Stop::default());
        let api = Api { script: script.clone(), routes: routes(&script) };
        let front = Front::start_with_tls(options, tls, move |_| api.clone()).await;
        let front = front.expect("it starts");
        let (listener, address) = listener().await;
        let stopped = stop.clone();
        let served =
            tokio::spawn(
                async move { Some(front.serve(listener, stopped.requested_within()).await) },
            );
        Self { name: "ours", address, script, stop, served }
    }

    /// Both, so that they can be compared.
    pub async fn both() -> [Self; 2] {
        [Self::tonic().await, Self::hot(options()).await]
    }

    /// Stops and waits for the end.
    pub async fn close(self) -> Option<Drained> {
        self.stop.request();
        self.served.await.expect("no panic")
    }
}
