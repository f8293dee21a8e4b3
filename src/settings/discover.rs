//! The settings of `fanfare discover`.

use super::{Dashes, Group, Kind, Role, process, setting, store::s3};

/// The role.
pub(super) const ROLE: Role = Role {
    name: "discover",
    about: "Writes the endpoints of services where load balancers read them",
    dashes: Dashes::Two,
    groups: GROUPS,
};

const GROUPS: &[Group] = &[
    Group {
        title: "Selection",
        settings: &[
            setting(
                "",
                "discover[].name",
                Kind::One("NAME"),
                "discover, of several discover-1 and so on",
                "Name of the export in logs and metrics, and of its file in a directory; no two have the same",
            ),
            setting(
                "select",
                "discover[].select.labels",
                Kind::One("SELECTOR"),
                "",
                "Services by their labels, as kubectl's --selector takes it; empty: all. Required",
            )
            .env(&["LABEL_FILTER"]),
            setting(
                "namespaces",
                "discover[].select.namespaces",
                Kind::Many("NS"),
                "all, which needs a ClusterRole",
                "Namespaces, each of which needs a Role only; commas separate several",
            )
            .short('n'),
            setting(
                "ports",
                "discover[].ports",
                Kind::Many("NAME|NUMBER"),
                "all",
                "Which ports of a service, by name or by the number that its pods listen on",
            ),
            setting(
                "members",
                "discover[].members",
                Kind::One("RULE"),
                "ready",
                "Which endpoints: ready; serving (also terminating ones that still serve); ready-else-serving; known",
            ),
            setting(
                "names",
                "discover[].names",
                Kind::One("TEMPLATE"),
                "{service}-{port}",
                "What backends are called; also {namespace}, {port_name}, {service_port}, {protocol}. Of two of the same name the later one gets its namespace in front",
            ),
        ],
    },
    Group {
        title: "Format",
        settings: &[
            setting(
                "format",
                "discover[].format",
                Kind::Many("FORMAT"),
                "traefik",
                "traefik, traefik-json, default, json, prometheus, envoy, envoy-cds, haproxy, haproxy-map, nginx, nginx-stream, hosts or template; commas separate several",
            )
            .short('f')
            .env(&["OUTPUT_FORMATS"]),
            setting(
                "routers",
                "discover[].routers",
                Kind::Switch,
                "false",
                "traefik: routers too, for services with the annotation fanfare/host",
            ),
            setting(
                "servers-transport",
                "discover[].servers_transport",
                Kind::One("NAME"),
                "",
                "traefik: the serversTransport of backends that speak TLS",
            ),
            setting(
                "envoy-directory",
                "discover[].envoy_directory",
                Kind::One("PATH"),
                "",
                "envoy: the directory of the files as Envoy sees it",
            ),
            setting(
                "trust",
                "discover[].trust",
                Kind::One("WHOM"),
                "system",
                "envoy, haproxy: whom they trust where endpoints speak TLS: system, anyone, or the path of a file of authorities as they see it",
            ),
            setting("template", "discover[].template", Kind::One("PATH"), "", "template: the file of the template (minijinja)"),
        ],
    },
    Group {
        title: "Sinks",
        settings: &[
            setting(
                "to",
                "discover[].to",
                Kind::Many("PLACE"),
                "",
                "Where to: s3://BUCKET/KEY, a path, configmap://NS/NAME/KEY, an http(s) URL (PUT), or serve:/PATH. What ends in / is a directory; {format} becomes traefik.yaml, default.yaml, ... Required",
            )
            .short('t'),
            setting(
                "listen",
                "discover[].listen",
                Kind::One("ADDRESS:PORT"),
                "",
                "Where serve:/PATH is served; required for it",
            ),
            setting(
                "manifest",
                "discover[].manifest",
                Kind::Switch,
                "true with --leader-elect",
                "Keep a manifest beside the file, so that several writers exclude each other and bridges verify what they pull",
            ),
            setting(
                "cluster",
                "discover[].cluster",
                Kind::One("NAME"),
                "default",
                "Which kube cluster this is, as manifests say it: the place of another one is never written to",
            ),
        ],
    },
    Group { title: "S3 and HTTP", settings: s3!("discover[]") },
    Group {
        title: "Safety and pace",
        settings: &[
            setting(
                "max-shrink",
                "discover[].max_shrink",
                Kind::One("PERCENT"),
                "30%",
                "The largest share of endpoints that may go without having been seen to go (a restart, a new list), where it is more than 10",
            ),
            setting(
                "empty-hold",
                "discover[].empty_hold",
                Kind::One("DURATION"),
                "30s",
                "For how long an empty result is held back that no deletion explains",
            ),
            setting("debounce", "discover[].debounce", Kind::One("DURATION"), "200ms", "Write after so long without a further change"),
            setting("debounce-max", "discover[].debounce_max", Kind::One("DURATION"), "2s", "but not later than so long after the first"),
            setting(
                "resync",
                "discover[].resync",
                Kind::One("DURATION"),
                "5m0s",
                "How often is looked whether the sinks still hold what they should",
            ),
            setting("write-timeout", "discover[].timeout", Kind::One("DURATION"), "10s", "How long bringing one sink up to date may take"),
            setting(
                "once",
                "discover[].once",
                Kind::Switch,
                "false",
                "Write once and exit, with a status other than 0 where something could not be written within a minute",
            ),
        ],
    },
    Group { title: "Kubernetes", settings: &[process::KUBECONFIG] },
    process::LEADER_ELECT,
    Group {
        title: "Process",
        settings: &[
            process::ADMIN,
            process::DRAIN_DELAY,
            process::DRAIN_TIMEOUT,
            process::LOG_LEVEL,
            process::LOG_FORMAT,
        ],
    },
];
