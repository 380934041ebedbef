//! The application's trace, passed on with its calls: those made while a span of it is current are shown under that span.

use tonic::Request;

/// The same request, under the span that is current, if there is one.
#[cfg(feature = "opentelemetry")]
pub(crate) fn carry<M>(mut request: Request<M>) -> Request<M> {
    use opentelemetry::trace::TraceContextExt;

    opentelemetry::Context::map_current(|current| {
        let span = current.span();
        let context = span.span_context();
        // One that is not sampled is passed on as well: then nobody begins a trace of the call alone.
        if !context.is_valid() {
            return;
        }
        let (trace, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags());
        let text = format!("00-{trace}-{span}-{:02x}", flags.to_u8());
        if let Ok(text) = text.parse() {
            request.metadata_mut().insert("traceparent", text);
        }
    });
    request
}

/// The same request.
#[cfg(not(feature = "opentelemetry"))]
pub(crate) fn carry<M>(request: Request<M>) -> Request<M> {
    request
}

#[cfg(all(test, feature = "opentelemetry"))]
mod tests {
    use opentelemetry::Context;
    use opentelemetry::trace::{
        SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState,
    };

    use super::*;

    fn carried() -> Option<String> {
        let request = carry(Request::new(()));
        request.metadata().get("traceparent").map(|value| value.to_str().expect("text").to_owned())
    }

    #[test]
    fn the_span_that_is_current_is_carried() {
        assert_eq!(carried(), None);
        for flags in [0, 1] {
            let context = SpanContext::new(
                TraceId::from_bytes([0x0a; 16]),
                SpanId::from_bytes([0x0b; 8]),
                TraceFlags::new(flags),
                false,
                TraceState::NONE,
            );
            let _current = Context::new().with_remote_span_context(context).attach();
            let (trace, span) = ("0a".repeat(16), "0b".repeat(8));
            assert_eq!(carried(), Some(format!("00-{trace}-{span}-0{flags}")));
        }
        assert_eq!(carried(), None);
    }
}
