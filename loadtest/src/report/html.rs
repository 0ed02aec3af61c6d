//! Findings as one page that stands alone: no network and no scripts are needed to see it.

use super::Findings;

/// The page of one run.
pub(crate) fn page(findings: &Findings) -> String {
    maud::html! { pre { (super::text::render(findings)) } }.into_string()
}
