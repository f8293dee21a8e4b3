//! The settings of `fanfare endpoints`.

use super::{Dashes, Group, Kind, Role, process, setting};

/// The role.
pub(super) const ROLE: Role = Role {
    name: "endpoints",
    about: "Answers over HTTP who the endpoints of a service are",
    dashes: Dashes::Two,
    groups: GROUPS,
};

const GROUPS: &[Group] = &[
    Group {
        title: "Services",
        settings: &[
            setting(
                "service",
                "endpoints.services",
                Kind::Many("[NS/]NAME"),
                "",
                "Services whose endpoints are told; commas separate several. The first one is at /endpoints, each at /v1/services/NS/NAME/endpoints. Required",
            )
            .short('s')
            .env(&["KUBERNETES_POD_DISCOVERY_SERVICE_NAME"]),
            setting(
                "namespace",
                "endpoints.namespace",
                Kind::One("NS"),
                "$POD_NAMESPACE, else the service account's",
                "Namespace of services that are named without one",
            )
            .short('n')
            .env(&["KUBERNETES_POD_DISCOVERY_NAMESPACE"]),
        ],
    },
    Group {
        title: "Answers",
        settings: &[
            setting(
                "listen",
                "endpoints.listen",
                Kind::One("[ADDRESS:]PORT"),
                "0.0.0.0:8080",
                "Where /endpoints, /health, /ready and /metrics are served. Not in the file: not served",
            )
            .env(&["KUBERNETES_POD_DISCOVERY_LISTEN_PORT"])
            .always(),
            setting(
                "max-age",
                "endpoints.max_age",
                Kind::One("DURATION"),
                "",
                "How old the data may be before /ready says no. Where nothing changes something is heard every minute at the latest, so that less than 90s makes no sense",
            ),
        ],
    },
    Group {
        title: "On change",
        settings: &[
            setting(
                "hosts-file",
                "endpoints.hosts_file",
                Kind::One("PATH"),
                "",
                "A hosts file in which the names of the ready endpoints are kept, in a block of our own",
            ),
            setting(
                "cluster-domain",
                "endpoints.cluster_domain",
                Kind::One("DOMAIN"),
                "cluster.local",
                "What full names in the hosts file end in",
            ),
            setting(
                "exec",
                "endpoints.exec",
                Kind::One("COMMAND"),
                "",
                "What to run when the endpoints have changed, and once when they are known; no shell reads it, in the file it may be a list of words. FANFARE_CHANGED names the services",
            ),
            setting(
                "exec-debounce",
                "endpoints.exec_debounce",
                Kind::One("DURATION"),
                "1s",
                "How long after a change the command runs; what changes within that time is told with it",
            ),
            setting(
                "exec-timeout",
                "endpoints.exec_timeout",
                Kind::One("DURATION"),
                "30s",
                "How long the command may take before it is killed, with what it has started",
            ),
        ],
    },
    Group { title: "Kubernetes", settings: &[process::KUBECONFIG] },
    Group {
        title: "Process",
        settings: &[
            process::ADMIN.unless_given(),
            process::DRAIN_DELAY,
            process::DRAIN_TIMEOUT,
            process::LOG_LEVEL,
            process::LOG_FORMAT,
        ],
    },
];
