//! What the methods offer, as one table.

use std::fmt::Write;

use crate::{
    capability::Capability,
    config::Range,
    method::{Method, Role},
    methods::facts,
    text::name,
};

/// Returns what `method` offers in `role` with `range`, or `None` where it does not support them.
pub fn capability(method: Method, role: Role, range: Range) -> Option<Capability> {
    match (role, range) {
        (Role::Weight, Range::Unsigned) => None,
        _ => facts(&method).capability(role, range),
    }
}

/// Returns the table of methods, roles and options that
/// [`validate`](crate::QuantizerConfig::validate) accepts, as Markdown. Roles and ranges that offer
/// the same share a row.
pub fn methods_table() -> String {
    let mut table = String::from(
        "| method | role | levels | granularity | estimators | normalisation | options | learns |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for method in Method::ALL.iter().copied() {
        let mut rows: Vec<(Vec<String>, Capability)> = Vec::new();
        for role in Role::ALL {
            for range in [Range::Unsigned, Range::Signed] {
                let Some(offer) = capability(method, role, range) else {
                    continue;
                };
                let label = format!("{} {}", name(&range), name(&role));
                match rows.iter_mut().find(|(_, other)| *other == offer) {
                    Some((labels, _)) => labels.push(label),
                    None => rows.push((vec![label], offer)),
                }
            }
        }
        for (labels, offer) in rows {
            let _ = writeln!(table, "| `{}` | {} | {offer} |", method, labels.join(", "));
        }
    }
    table
}
