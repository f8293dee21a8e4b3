//! Environment variables of the tool that `fanfare discover` replaces, as far as the table of settings has none for them.

use super::flags::Flags;
use crate::settings::{discover as settings, environment::Environment, process::METRICS_INTERFACE, store};

/// Translates `MODE`, `SLEEP`, `DISCOVERY` and the target in `MINIO_…`; flags take precedence.
pub(super) fn amend(flags: &mut Flags, environment: &Environment) {
    if flags.is_on(&settings::ONCE) && !flags.is_given(&METRICS_INTERFACE) {
        // It ends before a client could ask.
        flags.unset_section(&METRICS_INTERFACE);
    }
    let variable = |name: &str| environment.get(name).map(str::to_owned);
    match variable("MODE").as_deref() {
        None | Some("watch") => {}
        // Services are watched in both modes. The loop also restored files that others had changed.
        Some("loop") => {
            let seconds = variable("SLEEP").unwrap_or_else(|| "5".into());
            match seconds.parse::<u32>() {
                Ok(seconds) if seconds > 0 => flags.set_default(&settings::RESYNC, format!("{seconds}s").into()),
                _ => flags.problem("SLEEP", format!("{seconds:?} is not a number of seconds"), &[]),
            }
        }
        Some(mode) => flags.problem("MODE", format!("{mode:?} is neither watch nor loop"), &[]),
    }
    if let Some(kind) = variable("DISCOVERY").filter(|kind| kind != "endpoints") {
        flags.problem("DISCOVERY", format!("{kind:?} is not supported: only endpoints are discovered"), &[]);
    }
    if let Some(endpoint) = variable("MINIO_ENDPOINT") {
        let secure = variable("MINIO_SSL_ENABLED")
            .is_some_and(|text| ["1", "true", "yes", "on"].contains(&text.to_ascii_lowercase().as_str()));
        let scheme = if secure { "https" } else { "http" };
        let url = if endpoint.contains("://") { endpoint } else { format!("{scheme}://{endpoint}") };
        flags.set_default(&store::S3_ENDPOINT.under(settings::EXPORT), url.into());
    }
    let (bucket, key) = (variable("MINIO_BUCKET"), variable("MINIO_PATH_KEY"));
    match (bucket, key) {
        (Some(bucket), Some(key)) => {
            let key = key.trim_start_matches('/');
            flags.set_default(&settings::TO, format!("s3://{bucket}/{key}.{{format}}").into());
            // The tool that this replaces does so.
            flags.set_default(&store::S3_CREATE_BUCKET.under(settings::EXPORT), true.into());
        }
        (Some(_), None) => {
            flags.problem("MINIO_PATH_KEY", "is missing beside MINIO_BUCKET".into(), &["discover[0].to"]);
        }
        (None, Some(_)) => {
            flags.problem("MINIO_BUCKET", "is missing beside MINIO_PATH_KEY".into(), &["discover[0].to"]);
        }
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::{cli::Task, config::discover::DiscoverConfig};

    fn parse(arguments: &[&str], environment: &[(&str, &str)]) -> Result<DiscoverConfig, String> {
        let environment = environment.iter().copied().collect();
        let task = crate::cli::parse_with(["fanfare", "discover"].iter().chain(arguments).copied(), &environment);
        let Ok(Task::Serve(flags)) = task else { panic!("{task:?}") };
        flags.config().map(|mut config| config.discover.remove(0)).map_err(|problems| problems.to_string())
    }

    fn shown(arguments: &[&str], environment: &[(&str, &str)]) -> serde_json::Value {
        let config = parse(arguments, environment).unwrap_or_else(|problems| panic!("{problems}"));
        serde_json::to_value(config).expect("it can be shown")
    }

    const OLD: [(&str, &str); 10] = [
        ("MODE", "watch"),
        ("DISCOVERY", "endpoints"),
        ("LABEL_FILTER", "k8s-service-discovery=yes"),
        ("OUTPUT_FORMATS", "traefik_yaml,default_yaml"),
        ("MINIO_ENDPOINT", "minio:9000"),
        ("MINIO_ACCESS_KEY_ID", "access"),
        ("MINIO_SECRET_ACCESS_KEY", "s3cret"),
        ("MINIO_SSL_ENABLED", "false"),
        ("MINIO_BUCKET", "discovery"),
        ("MINIO_PATH_KEY", "/clusters/edge"),
    ];

    #[test]
    fn the_environment_of_the_tool_it_replaces_says_all() {
        let config = shown(&[], &OLD);
        assert_eq!(config["select"], "k8s-service-discovery=yes");
        assert_eq!(config["outputs"][0]["to"][0], "s3://discovery/clusters/edge.traefik.yaml");
        assert_eq!(config["outputs"][1]["to"][0], "s3://discovery/clusters/edge.default.yaml");
        assert_eq!(config["s3"]["endpoint"], "http://minio:9000");
        assert_eq!((&config["s3"]["create_bucket"], &config["manifest"]), (&true.into(), &false.into()));
        assert!(!config.to_string().contains("s3cret") && !format!("{:?}", parse(&[], &OLD)).contains("s3cret"));
        let with = |name: &'static str, value: &'static str| {
            let mut environment = OLD.to_vec();
            environment.retain(|(key, _)| *key != name);
            environment.push((name, value));
            environment
        };
        assert_eq!(shown(&[], &with("MINIO_SSL_ENABLED", "True"))["s3"]["endpoint"], "https://minio:9000");
        let resync = |environment: &[(&str, &str)]| parse(&[], environment).map(|config| config.pace.resync.as_secs());
        assert_eq!(resync(&with("MODE", "loop")), Ok(5));
        assert_eq!(resync(&[&with("MODE", "loop")[..], &[("SLEEP", "30")]].concat()), Ok(30));
        for (name, value) in
            [("MODE", "poll"), ("DISCOVERY", "nodes"), ("MINIO_PATH_KEY", ""), ("OUTPUT_FORMATS", "xml")]
        {
            let problems = parse(&[], &with(name, value)).expect_err(name);
            let named = if name == "OUTPUT_FORMATS" { "--format" } else { name };
            assert!(problems.contains(named) && !problems.contains("discover[0]"), "{problems}");
        }
    }

    #[test]
    fn flags_outrank_it() {
        let config = shown(&["--to", "/tmp/edge.yml", "-f", "prometheus", "--select", "a=b"], &OLD);
        assert_eq!(config["outputs"][0]["to"][0], "/tmp/edge.yml");
        assert_eq!((&config["outputs"][0]["format"], &config["select"]), (&"prometheus".into(), &"a=b".into()));
    }

    #[test]
    fn missing_and_contradictory_values_are_reported_by_flag() {
        let problems = parse(&[], &[]).expect_err("nothing is given");
        assert!(problems.contains("--to: is missing") && problems.contains("--select: is missing"), "{problems}");
        for (flags, named) in [
            (&["--to=/x", "-f=envoy"][..], "--format"),
            (&["--to=/x", "-f=envoy", "--envoy-directory=/e"], "end \"/x\" with /"),
            (&["--to=/x", "-f=json,hosts"], "put {format} into its name"),
            (&["--to=/x/", "-f=json,hosts", "--routers"], "--format: none of the formats uses routers"),
            (&["--to=configmap://a/b/", "-f=envoy", "--envoy-directory=/e"], "a ConfigMap cannot have"),
            (&["--to=/x/", "-f=json,json"], "/x/discover.json is written by `discover` already"),
            (&["--to=/x", "-f=template", "--template=/nowhere/x"], "cannot read /nowhere/x"),
            (&["--to=serve:/x"], "--listen"),
            (&["--to=ftp://x"], "--to"),
            (&["--to=/x", "--max-shrink=0.3"], "--max-shrink"),
            (&["--to=/x", "--s3-endpoint=minio:9000"], "--s3-endpoint"),
            (&["--to=/x", "--names={x}"], "--names"),
            (&["--to=/x", "--namespaces=A"], "--namespaces"),
        ] {
            let problems = parse(&[&["--select=a=b"], flags].concat(), &[]).expect_err(named);
            assert!(problems.contains(named), "{problems}");
        }
    }

    #[test]
    fn in_a_directory_a_file_is_called_after_the_export_and_its_format() {
        let to = |flags: &[&str]| {
            let config = shown(&[&["--select=a=b"], flags].concat(), &[]);
            let outputs = config["outputs"].as_array().expect("a list").iter();
            outputs.map(|output| output["to"][0].as_str().expect("a place").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(to(&["--to=/x/", "-f=hosts,nginx"]), ["/x/discover.hosts", "/x/discover.nginx.conf"]);
        assert_eq!(to(&["--to=s3://b/a/"]), ["s3://b/a/discover.traefik.yaml"]);
        assert_eq!(to(&["--to=/x/", "-f=envoy,json", "--envoy-directory=/e"]), ["/x/", "/x/discover.json"]);
    }

    #[test]
    fn replicas_keep_manifests() {
        let manifest = |flags: &[&str]| shown(&[&["--to=/x", "--select="], flags].concat(), &[])["manifest"].clone();
        assert_eq!(manifest(&[]), false);
        assert_eq!(manifest(&["--leader-elect"]), true);
        assert_eq!(manifest(&["--leader-elect", "--no-manifest"]), false);
        assert_eq!(manifest(&["--leader-elect=false"]), false);
        assert_eq!(manifest(&["--manifest"]), true);
    }
}
