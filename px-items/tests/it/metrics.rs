//! Every metric of the workspace: recorded under one name with one type, listed by its crate, and
//! described in `METRICS.md`.
//!
//! `UPDATE=1 cargo test -p px-items --all-features --test it metrics` writes that file.

use px_core::metrics::{Metric, MetricKind};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// Crates that record metrics, and their lists.
const CRATES: [(&str, &[Metric]); 2] =
    [("px-server", px_server::metrics::METRICS), ("px-items", px_items::metrics::METRICS)];
/// Folders with the searched source code.
const FOLDERS: [&str; 8] = [
    "px-core/src",
    "px-types/src",
    "px-server/src",
    "px-client/src",
    "px-items/src",
    "px-cli/src",
    "examples/src",
    "bench/src",
];

/// A metric as the source records it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Recorded {
    name: String,
    kind: MetricKind,
    labels: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every place that records something.
fn recorded() -> Vec<(PathBuf, Recorded)> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = FOLDERS.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(&path).unwrap();
                found.extend(recorded_in(&source).into_iter().map(|one| (path.clone(), one)));
            }
        }
    }
    found
}

/// The metrics that a source text records, by calls of the facade's macros.
fn recorded_in(source: &str) -> Vec<Recorded> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let kinds = [
        ("counter!(", MetricKind::Counter),
        ("gauge!(", MetricKind::Gauge),
        ("histogram!(", MetricKind::Histogram),
    ];
    let mut found = Vec::new();
    for (call, kind) in kinds {
        for (at, _) in code.match_indices(call) {
            // `describe_counter!` records nothing.
            if code[..at].ends_with('_') {
                continue;
            }
            let arguments = arguments(&code[at + call.len()..]);
            let name = text(&arguments[0]);
            let labels = arguments[1..]
                .iter()
                .map(|label| text(label.split_once("=>").expect("a label has a name").0));
            let mut labels: Vec<_> = labels.collect();
            labels.sort();
            found.push(Recorded { name, kind, labels });
        }
    }
    found
}

/// The arguments of a call, up to its end.
fn arguments(call: &str) -> Vec<String> {
    let (mut depth, mut is_text, mut arguments) = (0, false, vec![String::new()]);
    for one in call.chars() {
        match one {
            '"' => is_text = !is_text,
            '(' | '[' | '{' if !is_text => depth += 1,
            ')' if depth == 0 && !is_text => break,
            ')' | ']' | '}' if !is_text => depth -= 1,
            ',' if depth == 0 && !is_text => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        arguments.last_mut().unwrap().push(one);
    }
    // A comma at the end.
    arguments.retain(|argument| !argument.trim().is_empty());
    arguments
}

/// The text of a literal.
fn text(literal: &str) -> String {
    let name = literal.trim().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    name.unwrap_or_else(|| panic!("{literal} is not written as a text")).to_owned()
}

#[test]
fn calls_are_found_in_any_form() {
    let source = r#"
        /// counter!("in_a_comment");
        metrics::counter!("a_total", "b" => one(x, "y, z"), "a" => two).increment(1);
        gauge!(
            "g",
        ).set(1);
        describe_gauge!("described");
    "#;
    let labels = vec!["a".to_owned(), "b".to_owned()];
    let expected = [
        Recorded { name: "a_total".into(), kind: MetricKind::Counter, labels },
        Recorded { name: "g".into(), kind: MetricKind::Gauge, labels: vec![] },
    ];
    assert_eq!(recorded_in(source), expected);
}

#[test]
fn every_metric_has_one_type_and_one_set_of_labels() {
    let mut known = BTreeMap::new();
    for (path, one) in recorded() {
        let is = (one.kind, one.labels);
        let first = known.entry(one.name.clone()).or_insert_with(|| (is.clone(), path.clone()));
        assert_eq!(first.0, is, "{}: {} and {}", one.name, first.1.display(), path.display());
    }
    assert!(known.len() > 20, "few were found: {known:?}");
}

#[test]
fn every_metric_is_listed_by_its_crate_and_every_listed_one_is_recorded() {
    for (name, listed) in CRATES {
        let source = root().join(name).join("src");
        let recorded: BTreeSet<_> = recorded()
            .into_iter()
            .filter(|(path, _)| path.starts_with(&source))
            .map(|(_, recorded)| recorded)
            .collect();
        let listed: BTreeSet<_> = listed
            .iter()
            .map(|metric| {
                let mut labels: Vec<_> = metric.labels.iter().map(|&label| label.into()).collect();
                labels.sort();
                Recorded { name: metric.name.into(), kind: metric.kind, labels }
            })
            .collect();
        assert_eq!(recorded, listed, "{name}");
    }
    let others = recorded().into_iter().filter(|(path, _)| {
        CRATES.iter().all(|(name, _)| !path.starts_with(root().join(name).join("src")))
    });
    let others: Vec<_> = others.collect();
    assert!(others.is_empty(), "add the crate to the list: {others:?}");
}

#[test]
fn names_follow_their_types() {
    for metric in CRATES.iter().flat_map(|(_, listed)| *listed) {
        let is_total = metric.name.ends_with("_total");
        assert_eq!(is_total, metric.kind == MetricKind::Counter, "{}", metric.name);
        assert!(metric.description.ends_with('.'), "{}", metric.name);
    }
}

#[test]
fn the_document_is_up_to_date() {
    let mut document = "# Metrics\n\nGenerated from `px_server::metrics` and `px_items::metrics`; a test compares it. \
        `describe` of either module\npasses the descriptions on to the recorder that a program installs.\n\
        No label names a user, an Item, an application or an address.\n"
        .to_owned();
    for (name, listed) in CRATES {
        write!(
            document,
            "\n## {name}\n\n| name | type | labels | description |\n|---|---|---|---|\n"
        )
        .unwrap();
        for metric in listed {
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let Metric { name, kind, description, .. } = metric;
            let (kind, labels) = (kind.as_str(), labels.join(", "));
            writeln!(document, "| `{name}` | {kind} | {labels} | {description} |").unwrap();
        }
    }
    let path = root().join("METRICS.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == document, "METRICS.md is old; run this test with UPDATE=1");
}
