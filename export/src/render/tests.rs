//! Tests with golden files, and with hostile texts in Services.

mod golden;
mod hostile;
mod reading;

use super::*;
use crate::backend::{Model, Names, fixture::Service, fixture::catalog};

/// The backends of these Services, as a plain export has them.
fn backends(services: impl IntoIterator<Item = Service>) -> Vec<Backend> {
    Model::default().backends(&catalog(services), &mut Names::default())
}

/// The format of this name, with the options that it needs.
fn format(name: &str) -> Format {
    let options = FormatOptions {
        routers: name.starts_with("traefik"),
        directory: (name == "envoy").then(|| "/etc/envoy/k8s".to_owned()),
        template: (name == "template").then(|| include_str!("../../tests/golden/template.jinja").to_owned()),
        ..FormatOptions::default()
    };
    Format::parse(name, &options).expect("a format")
}

/// Every format's name.
const ALL: [&str; 13] = [
    "traefik",
    "traefik-json",
    "default",
    "json",
    "prometheus",
    "envoy",
    "envoy-cds",
    "haproxy",
    "haproxy-map",
    "nginx",
    "nginx-stream",
    "hosts",
    "template",
];

/// A file as text.
fn text(file: &File) -> &str {
    std::str::from_utf8(&file.bytes).expect("every format is text")
}

/// The only file of a format that has one.
fn only(name: &str, backends: &[Backend]) -> String {
    let rendered = format(name).render(backends).expect("it can be rendered");
    assert!(rendered.files.len() == 1 && rendered.files[0].name.is_empty());
    text(&rendered.files[0]).to_owned()
}
