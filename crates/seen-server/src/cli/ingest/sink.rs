//! The service as what takes marks.

use std::time::Duration;

use seen_client::{ApiError, Client, ErrorKind, MarkCall, Session};
use seen_dialect::Record;
use seen_filter::history::SeamFuture;
use seen_kafka::ingest::{Mark, MarkFailure, MarkSink, Said};
use tokio::sync::Mutex;

use super::message::Form;
use crate::cli::export::pacer::Pacer;

/// Marks by calls of the API.
pub(super) struct ServiceSink {
    form: Form,
    client: Client,
    timeout: Duration,
    pacer: Mutex<Pacer>,
}

impl ServiceSink {
    pub(super) fn new(form: Form, client: Client, timeout: Duration, rate: Option<f64>) -> Self {
        Self { form, client, timeout, pacer: Mutex::new(Pacer::new(rate)) }
    }
}

impl MarkSink for ServiceSink {
    fn read(&self, message: &Record<'_>) -> Said {
        self.form.read(message)
    }

    fn mark(&self, mark: Mark) -> SeamFuture<'_, Result<(), MarkFailure>> {
        Box::pin(async move {
            self.pacer.lock().await.pass(mark.items.len()).await;
            let mut call = MarkCall::new(mark.namespace).timeout(self.timeout);
            for (item, marked_at_ms) in mark.items {
                let (kind, id) = (item.kind.get(), item.id.get());
                call = match marked_at_ms {
                    Some(at) => call.item_at(kind, id, at),
                    None => call.item(kind, id),
                };
            }
            // Nobody reads in this session: its token is not carried on.
            self.client.mark(&Session::new(mark.user), call).await.map_err(failure)
        })
    }
}

/// Only what is wrong with the message itself is final: another server, or a mended one, takes the rest.
fn failure(error: ApiError) -> MarkFailure {
    match error.kind {
        ErrorKind::InvalidArgument | ErrorKind::UnknownNamespace | ErrorKind::TooLarge => {
            MarkFailure::Never(error.message)
        }
        _ => MarkFailure::Later(error.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_with_a_message_is_final() {
        let of = |kind| failure(ApiError::new(kind, "why"));
        assert_eq!(of(ErrorKind::InvalidArgument), MarkFailure::Never("why".to_owned()));
        for kind in [ErrorKind::ReadOnly, ErrorKind::OutcomeUnknown, ErrorKind::Overloaded] {
            assert_eq!(of(kind), MarkFailure::Later("why".to_owned()));
        }
    }
}
