//! The Prometheus text format, version 0.0.4.

use std::fmt::Write;

use webrocket_state::metrics::FigureKind;

/// What every name begins with.
const PREFIX: &str = "webrocket_";

/// Whether a figure only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Rises and falls.
    Gauge,
}

impl From<FigureKind> for Kind {
    fn from(kind: FigureKind) -> Self {
        match kind {
            FigureKind::Counter => Self::Counter,
            FigureKind::Gauge => Self::Gauge,
        }
    }
}

/// A page of figures as Prometheus reads them.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// The media type of the page.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Begins a family of series: its samples follow.
    pub fn family(&mut self, name: &str, help: &str, kind: Kind) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let _ =
            writeln!(self.text, "# HELP {PREFIX}{name} {}", help.replace('\\', "\\\\").replace('\n', "\\n"));
        let _ = writeln!(self.text, "# TYPE {PREFIX}{name} {kind}");
    }

    /// Writes one sample of the family begun last.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let _ = write!(self.text, "{PREFIX}{name}");
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{before}{label}=\"{text}\"");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &str, help: &str, kind: Kind, value: u64) {
        self.family(name, help, kind);
        self.sample(name, &[], value);
    }

    /// The page.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut exposition = Exposition::default();
        exposition.family("info", "A\nB", Kind::Gauge);
        exposition.sample("info", &[("a", "x\"y\\z\n"), ("b", "1")], 1);
        assert_eq!(
            exposition.into_text(),
            "# HELP webrocket_info A\\nB\n# TYPE webrocket_info gauge\nwebrocket_info{a=\"x\\\"y\\\\z\\n\",b=\"1\"} 1\n"
        );
    }
}
