//! The settings of `fanfare mirror`.

use super::{Dashes, Group, Kind, Role, Setting, process, setting};

/// Where in the file the flags go: the one remote cluster.
macro_rules! remote {
    ($key:literal) => {
        concat!("mirror.remotes[].", $key)
    };
}

/// The variables of the tool that this role replaces, and of that tool's successor.
macro_rules! variables {
    ($name:literal) => {
        &[concat!("KSM_", $name), concat!("SSM_", $name)]
    };
}

/// The role.
pub(super) const ROLE: Role = Role {
    name: "mirror",
    about: "Mirrors services of other kube clusters into this one",
    dashes: Dashes::OneOrTwo,
    groups: GROUPS,
};

/// The same setting under the name that it has here.
const fn named(flag: &'static str, common: Setting) -> Setting {
    Setting { flag, short: None, ..common }
}

const GROUPS: &[Group] = &[
    Group {
        title: "What is mirrored",
        settings: &[
            setting(
                "label-selector",
                remote!("select.labels"),
                Kind::One("SELECTOR"),
                "",
                "Which services of the remote cluster, by their labels. Required",
            )
            .env(variables!("LABEL_SELECTOR")),
            setting(
                "namespaces",
                remote!("namespaces"),
                Kind::Many("NS,..."),
                "",
                "The remote namespaces to look at, each with a watch of its own, so that a Role in each is enough; without any all of them, which takes a ClusterRole",
            )
            .env(variables!("NAMESPACES")),
            setting(
                "external-names",
                remote!("external_names"),
                Kind::One("refuse|copy"),
                "refuse",
                "What becomes of services of the type ExternalName: refused with an event, or copied as the alias that they are",
            )
            .env(variables!("EXTERNAL_NAMES")),
            setting(
                "labels",
                remote!("labels.include"),
                Kind::Many("KEY,..."),
                "*",
                "Labels that mirrors get from their services; * at the end stands for anything",
            )
            .env(variables!("LABELS")),
            setting(
                "exclude-labels",
                remote!("labels.exclude"),
                Kind::Many("KEY,..."),
                "",
                "Labels of those that they do not get",
            )
            .env(variables!("EXCLUDE_LABELS")),
            setting(
                "annotations",
                remote!("annotations.include"),
                Kind::Many("KEY,..."),
                "",
                "Annotations that mirrors get from their services",
            )
            .env(variables!("ANNOTATIONS")),
            setting(
                "exclude-annotations",
                remote!("annotations.exclude"),
                Kind::Many("KEY,..."),
                "",
                "Annotations of those that they do not get",
            )
            .env(variables!("EXCLUDE_ANNOTATIONS")),
            setting(
                "zones",
                remote!("zones"),
                Kind::One("keep|drop"),
                "keep",
                "Whether the zones of endpoints mean something here; other names for them, and hints, stand in the file",
            )
            .env(variables!("ZONES")),
            setting(
                "traffic-distribution",
                remote!("traffic_distribution"),
                Kind::Switch,
                "true",
                "Mirrors get the trafficDistribution of their services",
            )
            .env(variables!("TRAFFIC_DISTRIBUTION")),
        ],
    },
    Group {
        title: "The remote cluster",
        settings: &[
            setting(
                "target-kube-config",
                remote!("kubeconfig"),
                Kind::One("PATH"),
                "",
                "Kubeconfig of the remote cluster, read again when it changes; or else its URL",
            )
            .env(variables!("TARGET_KUBE_CONFIG")),
            setting(
                "target-context",
                remote!("context"),
                Kind::One("NAME"),
                "the current one",
                "Context of that kubeconfig",
            )
            .env(variables!("TARGET_CONTEXT")),
            setting(
                "remote-api-url",
                remote!("url"),
                Kind::One("URL"),
                "",
                "Where the API server of the remote cluster is",
            )
            .env(variables!("REMOTE_API_URL")),
            setting(
                "remote-ca-url",
                remote!("ca_url"),
                Kind::One("URL"),
                "",
                "Where the certificates are that vouch for it (PEM over https); fetched again every 10m, and when they do not vouch for it any more. Without it, and without a file, those of the system",
            )
            .env(variables!("REMOTE_CA_URL")),
            setting(
                "remote-ca-url-trust",
                remote!("ca_url_trust"),
                Kind::One("PATH"),
                "the system's",
                "Certificates (PEM) that vouch for where those are fetched from",
            )
            .env(variables!("REMOTE_CA_URL_TRUST")),
            setting(
                "remote-ca-file",
                remote!("ca_file"),
                Kind::One("PATH"),
                "",
                "The certificates as a file (PEM), read again when it changes",
            )
            .env(variables!("REMOTE_CA_FILE")),
            setting(
                "remote-sa-token-path",
                remote!("token_file"),
                Kind::One("PATH"),
                "",
                "The bearer token for it, read again when it changes",
            )
            .env(variables!("REMOTE_SA_TOKEN_PATH")),
            setting(
                "remote-token-env",
                remote!("token_env"),
                Kind::One("NAME"),
                "KSM_REMOTE_SERVICE_ACCOUNT_TOKEN",
                "The environment variable with the token, where there is no file",
            )
            .env(variables!("REMOTE_TOKEN_ENV")),
            setting(
                "remote-name",
                remote!("name"),
                Kind::One("TEXT"),
                "the prefix",
                "What logs, metrics and annotations call it",
            )
            .env(variables!("REMOTE_NAME")),
            setting(
                "remote-former",
                remote!("former"),
                Kind::Many("UID,..."),
                "",
                "UIDs of kube-system that it had before it was rebuilt: mirrors of then are its own",
            )
            .env(variables!("REMOTE_FORMER")),
        ],
    },
    Group {
        title: "The mirrors",
        settings: &[
            setting(
                "mirror-ns",
                remote!("namespace"),
                Kind::One("NS"),
                "this pod's",
                "Namespace of this cluster that the mirrors are in",
            )
            .env(variables!("MIRROR_NS")),
            setting(
                "svc-prefix",
                remote!("prefix"),
                Kind::One("TEXT"),
                "",
                "Prefix of the mirrors' names, and the value of their label mirror-svc-prefix-sync. Required",
            )
            .env(variables!("SVC_PREFIX")),
            setting(
                "names",
                remote!("names"),
                Kind::One("v0.2|v0.3|TEMPLATE"),
                "v0.2",
                "What mirrors are called: as that version of kube-service-mirror called them, or a text with {prefix}, {namespace} and {service}; too long a name is cut and hashed",
            )
            .env(variables!("NAMES")),
            setting(
                "svc-sync",
                remote!("sync"),
                Kind::Switch,
                "true",
                "Deletes mirrors whose services went while nobody looked",
            )
            .env(variables!("SVC_SYNC")),
            setting(
                "max-delete",
                remote!("max_delete"),
                Kind::One("N|N/P%|unlimited"),
                "10/30%",
                "More deletions than this that a complete list tells at once are held back: so many, or so many that are also so many per cent of all",
            )
            .env(variables!("MAX_DELETE")),
            setting(
                "confirm-after",
                remote!("confirm_after"),
                Kind::One("DURATION|never"),
                "1h0m0s",
                "Deletions held back go ahead where they are still due after this",
            )
            .env(variables!("CONFIRM_AFTER")),
            setting(
                "stale",
                remote!("stale"),
                Kind::One("keep|not-ready|delete|ttl=DURATION"),
                "keep",
                "What becomes of the mirrors while the remote cluster is away",
            )
            .env(variables!("STALE")),
            setting(
                "lost-after",
                remote!("lost_after"),
                Kind::One("DURATION"),
                "30s",
                "How long it is away before not-ready and delete take effect",
            )
            .env(variables!("LOST_AFTER")),
            setting(
                "resync-period",
                "mirror.resync",
                Kind::One("DURATION"),
                "1h0m0s",
                "How often everything is compared again, whatever the watches say; 0s is never",
            )
            .env(variables!("RESYNC_PERIOD")),
            setting("workers", "mirror.workers", Kind::One("N"), "8", "Mirrors that are worked on at the same time")
                .env(variables!("WORKERS")),
            setting(
                "dry-run",
                "mirror.dry_run",
                Kind::Switch,
                "false",
                "Prints what would be created, adopted, changed, deleted and refused, and ends",
            )
            .env(variables!("DRY_RUN")),
        ],
    },
    Group {
        title: "Services of several remote clusters as one",
        settings: &[
            setting(
                "global-label",
                "mirror.global.label",
                Kind::One("KEY[=VALUE]"),
                "",
                "Label by which a service also becomes part of the global service of its name and namespace",
            )
            .env(variables!("GLOBAL_LABEL")),
            setting(
                "global-ns",
                "mirror.global.namespace",
                Kind::One("NS"),
                "this pod's",
                "Namespace of this cluster that the global services are in",
            )
            .env(variables!("GLOBAL_NS")),
            setting(
                "global-prefix",
                "mirror.global.prefix",
                Kind::One("TEXT"),
                "gl",
                "Prefix of their names, and the value of their label",
            )
            .env(variables!("GLOBAL_PREFIX")),
            setting(
                "global-names",
                "mirror.global.names",
                Kind::One("v0.2|v0.3|TEMPLATE"),
                "v0.3",
                "What they are called",
            )
            .env(variables!("GLOBAL_NAMES")),
        ],
    },
    Group {
        title: "DNS (for fanfare mirror coredns)",
        settings: &[
            setting(
                "remote-domain",
                remote!("domain"),
                Kind::One("DOMAIN"),
                "cluster.<prefix>",
                "Domain under which services of the remote cluster are asked for here",
            )
            .env(variables!("REMOTE_DOMAIN")),
            setting(
                "global-domain",
                "mirror.global.domain",
                Kind::One("DOMAIN"),
                "cluster.global",
                "The same for global services",
            )
            .env(variables!("GLOBAL_DOMAIN")),
            setting(
                "cluster-domain",
                "mirror.cluster_domain",
                Kind::One("DOMAIN"),
                "cluster.local",
                "Domain of this cluster",
            )
            .env(variables!("CLUSTER_DOMAIN")),
        ],
    },
    Group { title: "Kubernetes", settings: &[named("kube-config", process::KUBECONFIG).env(variables!("KUBE_CONFIG"))] },
    process::LEADER_ELECT,
    Group {
        title: "Process",
        settings: &[
            setting(
                "listen",
                "mirror.listen",
                Kind::One("ADDRESS:PORT"),
                "0.0.0.0:8080",
                "Where /healthz, /readyz and /metrics are served. Not in the file: not served",
            )
            .env(variables!("LISTEN"))
            .always(),
            process::ADMIN.unless_given(),
            process::DRAIN_DELAY,
            process::DRAIN_TIMEOUT,
            process::LOG_LEVEL.env(variables!("LOG_LEVEL")),
            process::LOG_FORMAT,
        ],
    },
];
