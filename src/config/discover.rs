//! `discover:` in the file: exports, with their formats and targets.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use controlplane::catalog::Selection;
use export::{
    backend::Model,
    guard::Limits,
    pipeline::Pace,
    render::{Format, FormatOptions},
    sink::{InvalidTarget, Target},
};
use runtime::config::{Node, Section};
use serde::{Serialize, Serializer};
use serde_yaml::Value;

use super::{
    listener::{ListenerAccess, ListenerSettings},
    store::{self, StoreAccess},
};
use crate::settings::{discover as settings, values::boolean};

/// The placeholder for the format in a target.
const FORMAT: &str = "{format}";

/// One configured export: a selection, written in one or several formats.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct DiscoverConfig {
    /// Its name in logs and metrics, and as a file name.
    pub(crate) name: String,
    /// The selected Services.
    #[serde(serialize_with = "as_selection")]
    pub(crate) select: Selection,
    /// The options of its backends.
    #[serde(serialize_with = "as_model")]
    pub(crate) model: Model,
    /// Its formats and targets.
    pub(crate) outputs: Vec<FormatTargets>,
    /// The address of the listener for `serve:`.
    pub(crate) listen: Option<SocketAddr>,
    /// TLS and tokens of that listener.
    pub(crate) listener: ListenerAccess,
    /// Whether manifests are kept.
    pub(crate) manifest: bool,
    /// The name of this kube cluster.
    pub(crate) cluster: Arc<str>,
    /// The access to stores.
    #[serde(flatten)]
    pub(crate) access: StoreAccess,
    /// The limits of the shrink guard.
    pub(crate) limits: Limits,
    /// When it is written.
    pub(crate) pace: Pace,
    /// Whether to write once and end.
    pub(crate) once: bool,
}

/// One format with its targets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct FormatTargets {
    #[serde(serialize_with = "as_format")]
    pub(crate) format: Format,
    pub(crate) to: Vec<Target>,
}

/// Reads every export.
pub(super) fn read(root: &Section<'_>) -> Vec<DiscoverConfig> {
    // Several replicas need a manifest, which fences their writes.
    let replicas = match root.get("leader_elect").value() {
        Some(Value::Mapping(leader)) => leader.get("enabled").is_none_or(|enabled| !is_false(enabled)),
        _ => false,
    };
    let nodes = root.list("discover");
    let mut configs: Vec<DiscoverConfig> = Vec::new();
    let mut written = HashMap::new();
    for (number, node) in nodes.iter().enumerate() {
        let section = node.section();
        let default = if nodes.len() == 1 { "discover".to_owned() } else { format!("discover-{}", number + 1) };
        let config = one(&section, default, replicas);
        let Some(config) = config else {
            section.finish();
            continue;
        };
        if configs.iter().any(|before| before.name == config.name) {
            node.problem(format_args!("there is another export `{}`: give each a name of its own", config.name));
        }
        for place in config.outputs.iter().flat_map(|output| &output.to) {
            // Equal paths of two listeners, or keys of two stores, are different places.
            let on = config.listen.filter(|_| !place.is_outside());
            let at = (place.to_string(), on, config.access.s3.endpoint.clone());
            if let Some(before) = written.insert(at, config.name.clone()) {
                settings::TO.problem(&section, format_args!("{place} is written by `{before}` already"));
            }
        }
        let shares = |before: &&DiscoverConfig| config.listen.is_some() && before.listen == config.listen;
        if let Some(before) = configs.iter().find(shares)
            && before.listener != config.listener
        {
            let name = &before.name;
            let message = format_args!("is also that of `{name}`, with other TLS or tokens: write the same");
            settings::LISTEN.problem(&section, message);
        }
        section.finish();
        configs.push(config);
    }
    configs
}

fn one(section: &Section<'_>, default: String, replicas: bool) -> Option<DiscoverConfig> {
    let name = settings::NAME.or(section, default);
    let select = section.section("select");
    let labels = settings::SELECT.required(&select);
    let mut namespaces = settings::NAMESPACES.read(&select);
    namespaces.sort();
    namespaces.dedup();
    select.finish();
    let model = Model {
        names: settings::NAMES.or(section, Model::default().names),
        members: settings::MEMBERS.or(section, Model::default().members),
        ports: settings::PORTS.read(section),
    };
    let formats = formats(section);
    let outputs = outputs(section, &name, &formats);
    let listen = settings::LISTEN.read(section);
    let served = outputs.iter().flatten().any(|output| output.to.iter().any(|place| !place.is_outside()));
    if served && listen.is_none() && !settings::LISTEN.is_given(section) {
        settings::LISTEN.problem(section, "is missing: say where serve:/… is to be served, for instance 0.0.0.0:8080");
    }
    let names = ListenerSettings {
        cert: &settings::LISTEN_TLS_CERT,
        key: &settings::LISTEN_TLS_KEY,
        tokens: &settings::LISTEN_TOKENS,
    };
    let listener = ListenerAccess::read(section, &names, settings::LISTEN.is_given(section));
    let manifest = settings::MANIFEST.or(section, replicas);
    let cluster = settings::CLUSTER.or(section, "default".into());
    let access = store::read(section);
    let (limits, pace) = (Limits::default(), Pace::default());
    let limits = Limits {
        max_shrink: settings::MAX_SHRINK.or(section, limits.max_shrink),
        empty_hold: settings::EMPTY_HOLD.or(section, limits.empty_hold),
    };
    let pace = Pace {
        quiet: settings::DEBOUNCE.or(section, pace.quiet),
        at_most: settings::DEBOUNCE_MAX.or(section, pace.at_most),
        resync: settings::RESYNC.or(section, pace.resync),
        timeout: settings::WRITE_TIMEOUT.or(section, pace.timeout),
    };
    let once = settings::ONCE.or(section, false);
    let namespaces = if namespaces.is_empty() { None } else { Some(namespaces) };
    let select = Selection::Labels { selector: labels?, namespaces };
    Some(DiscoverConfig {
        name,
        select,
        model,
        outputs: outputs?,
        listen,
        listener,
        manifest,
        cluster,
        access,
        limits,
        pace,
        once,
    })
}

/// The formats with their options.
fn formats(section: &Section<'_>) -> Vec<Format> {
    let options = FormatOptions {
        routers: settings::ROUTERS.or(section, false),
        servers_transport: settings::SERVERS_TRANSPORT.read(section),
        directory: settings::ENVOY_DIRECTORY.read(section),
        trust: settings::TRUST.read(section),
        template: settings::TEMPLATE.read(section),
    };
    if settings::TEMPLATE.is_given(section) && options.template.is_none() {
        // The problem was reported already.
        return Vec::new();
    }
    let formats = match settings::FORMAT.get(section).value() {
        None => {
            let format = Format::parse("traefik", &options);
            format.map_err(|error| settings::FORMAT.problem(section, error)).into_iter().collect()
        }
        Some(_) => settings::FORMAT.read_with(section, |name| Format::parse(name, &options)),
    };
    // The options of an invalid format are unknown.
    if !formats.is_empty() {
        for option in options.unused(&formats) {
            settings::FORMAT.problem(section, format_args!("none of the formats uses {option}"));
        }
    }
    formats
}

/// Every format with its targets.
fn outputs(section: &Section<'_>, name: &str, formats: &[Format]) -> Option<Vec<FormatTargets>> {
    let nodes = settings::TO.nodes(section);
    if nodes.is_empty() {
        settings::TO.problem(
            section,
            "is missing: say where to, for instance s3://bucket/key or /etc/traefik/dynamic/edge.yml",
        );
        return None;
    }
    let mut outputs = Vec::new();
    for format in formats {
        let to: Vec<Target> = nodes.iter().filter_map(|node| place(node, name, format, formats.len())).collect();
        outputs.push(FormatTargets { format: format.clone(), to });
    }
    let complete = !outputs.is_empty() && outputs.iter().all(|output| output.to.len() == nodes.len());
    complete.then_some(outputs)
}

/// A target for one format. In a directory, a single file is named after the export.
fn place(node: &Node<'_>, name: &str, format: &Format, formats: usize) -> Option<Target> {
    node.parse_with(|text| {
        if formats > 1 && !text.contains(FORMAT) && !text.ends_with('/') {
            return Err(format!("{text:?} is one place for {formats} formats: put {FORMAT} into its name"));
        }
        let place = text.replace(FORMAT, format.extension());
        let target: Target = place.parse().map_err(|error: InvalidTarget| error.to_string())?;
        match (format.is_set(), target.is_set()) {
            (true, false) => Err(format!("the format {} is a set of files: end {text:?} with /", format.name())),
            (true, true) if matches!(target, Target::ConfigMap { .. }) => {
                Err(format!("the format {} has folders, which a ConfigMap cannot have", format.name()))
            }
            (false, true) => Ok(target.file(&format!("{name}.{}", format.extension()))),
            _ => Ok(target),
        }
    })
}

fn is_false(value: &Value) -> bool {
    match value {
        Value::Bool(on) => !on,
        Value::String(text) => boolean(text) == Ok(false),
        _ => false,
    }
}

fn as_selection<S: Serializer>(selection: &Selection, serializer: S) -> Result<S::Ok, S::Error> {
    match selection {
        Selection::Labels { selector, namespaces: None } => serializer.collect_str(selector),
        Selection::Labels { selector, namespaces: Some(namespaces) } => {
            serializer.collect_str(&format_args!("{selector} in {}", namespaces.join(", ")))
        }
        Selection::Service(key) => serializer.collect_str(key),
    }
}

fn as_model<S: Serializer>(model: &Model, serializer: S) -> Result<S::Ok, S::Error> {
    let ports = model.ports.iter().map(ToString::to_string).collect::<Vec<_>>();
    let shown =
        [("names", vec![model.names.to_string()]), ("members", vec![model.members.to_string()]), ("ports", ports)];
    serializer.collect_map(shown)
}

fn as_format<S: Serializer>(format: &Format, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(format.name())
}
