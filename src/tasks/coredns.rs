//! `fanfare mirror coredns`: asks each remote cluster for its services, and prints what CoreDNS needs to answer for them.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use controlplane::client::remote;
use mirror::{
    coredns::{self, Found, Mirrored, stanza},
    names::Scheme,
};

use crate::{
    cli,
    config::{Config, mirror::Remote},
    console, identity,
    kubernetes::Kubernetes,
    tasks,
};

/// How long listing the services of a remote cluster may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// Prints the part of a Corefile.
pub(crate) fn print(arguments: &cli::CoreDns) -> anyhow::Result<ExitCode> {
    let config = match &arguments.config {
        Some(path) => tasks::read(path),
        None => arguments.flags.config().map_err(|problems| tasks::unusable("the command line", &problems)),
    };
    let config = match config {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let runtime = tasks::control_runtime()?;
    let text = runtime.block_on(text(&config, arguments));
    runtime.shutdown_timeout(tasks::SHUTDOWN_TIMEOUT);
    console::print(&text?)?;
    Ok(ExitCode::SUCCESS)
}

async fn text(config: &Config, arguments: &cli::CoreDns) -> anyhow::Result<String> {
    let mirror = config.mirror.as_ref().context("there is no section mirror in the file")?;
    let namespaces = mirror.remotes.iter().map(|remote| &remote.namespace);
    let mut namespaces = namespaces.chain(mirror.global.iter().map(|global| &global.namespace));
    let own = if namespaces.any(Option::is_none) { Some(own_namespace(config).await?) } else { None };
    let checked = mirror.in_namespace(own.as_deref());
    let mut stanzas = Vec::new();
    let mut of_all = Vec::new();
    let mut add = |remote: &str, scheme: &Scheme, prefix: &str, namespace: &str, domain: &str, found: &[Found]| {
        let services: Vec<_> = found.iter().map(|found| (found.namespace.clone(), found.name.clone())).collect();
        let mirrored = Mirrored { remote, scheme, prefix, namespace, domain, services: &services };
        stanzas.push(stanza(mirrored, &mirror.cluster_domain, arguments.form).to_string());
    };
    for (remote, checked) in mirror.remotes.iter().zip(&checked.remotes) {
        let found = if arguments.offline { Vec::new() } else { services(remote, checked).await? };
        add(&checked.name, &checked.scheme, &checked.prefix, &checked.namespace, &remote.domain, &found);
        of_all.extend(found);
    }
    if let Some((global, written)) = checked.global.as_ref().zip(mirror.global.as_ref()) {
        of_all.retain(|found| global.opted_in(&found.labels));
        add("all clusters", &global.scheme, &global.prefix, &global.namespace, &written.domain, &of_all);
    }
    Ok(stanzas.join("\n"))
}

/// The services of a remote cluster that are mirrored.
async fn services(remote: &Remote, checked: &mirror::config::Remote) -> anyhow::Result<Vec<Found>> {
    let client = remote::connect(remote.access.clone().resolve()?).client;
    let asked = tokio::time::timeout(LIST_TIMEOUT, coredns::services(&client, checked)).await;
    let found = asked.map_err(anyhow::Error::from).and_then(|found| Ok(found?));
    found.with_context(|| {
        format!(
            "cannot list the services of {}; with --offline it is not contacted, and rules for long names are omitted",
            checked.name
        )
    })
}

/// The namespace of the pod, or of whoever asks.
async fn own_namespace(config: &Config) -> anyhow::Result<String> {
    let connection = Kubernetes::new(&config.kubernetes).connect().await;
    let connection = connection.context("the namespace of the mirrors is not given, and so is this pod's own")?;
    Ok(identity::namespace(&connection.namespace))
}
