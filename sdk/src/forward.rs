//! `tracing` events of a plugin, sent to the host: a library has its own dispatcher, which nobody listens to.

use crate::runtime::current_host;
use lacuna_abi::HostRef;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing_core::{Event, Field, Level, LevelFilter, Metadata, Subscriber, field::Visit, span};

/// Sends the library's events to the host of the call that runs on their thread, or else to `host`.
pub fn install(host: &HostRef) {
    let forward = Forward { fallback: host.clone(), next_span: AtomicU64::new(1) };
    // Fails only when the library has set a subscriber of its own, which is then its wish.
    let _ = tracing::subscriber::set_global_default(forward);
}

struct Forward {
    fallback: HostRef,
    next_span: AtomicU64,
}

#[derive(Default)]
struct Fields {
    message: String,
    others: serde_json::Map<String, serde_json::Value>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.others.insert(field.name().into(), format!("{value:?}").into());
        }
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.others.insert(field.name().into(), value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.others.insert(field.name().into(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.others.insert(field.name().into(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.others.insert(field.name().into(), value.into());
    }
}

fn number(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

impl Subscriber for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        number(metadata.level()) <= self.fallback.log_max_level()
    }
    fn max_level_hint(&self) -> Option<LevelFilter> {
        const FILTERS: [LevelFilter; 6] = [
            LevelFilter::OFF,
            LevelFilter::ERROR,
            LevelFilter::WARN,
            LevelFilter::INFO,
            LevelFilter::DEBUG,
            LevelFilter::TRACE,
        ];
        Some(FILTERS[usize::from(self.fallback.log_max_level().min(5))])
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(self.next_span.fetch_add(1, Ordering::Relaxed))
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let host = current_host().unwrap_or_else(|| self.fallback.clone());
        let others = serde_json::Value::Object(fields.others).to_string();
        let metadata = event.metadata();
        host.log(
            number(metadata.level()),
            metadata.target().into(),
            fields.message.as_str().into(),
            others.as_str().into(),
        );
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
