//! The settings of `fanfare elect`.

use super::{Dashes, Group, Kind, Role, Setting, process, setting};

/// Where in the file the flags go: the one election.
macro_rules! election {
    ($key:literal) => {
        concat!("elect[].", $key)
    };
}

/// A flag of klog, which the tool that this role replaces logs with. Its levels are others than ours.
const fn klog(flag: &'static str, value: bool) -> Setting {
    setting(flag, "", Kind::Ignored { value }, "", "")
}

/// The role.
pub(super) const ROLE: Role = Role {
    name: "elect",
    about: "Takes part in a leader election and says over HTTP who leads",
    dashes: Dashes::OneOrTwo,
    groups: GROUPS,
};

const GROUPS: &[Group] = &[
    Group {
        title: "Election",
        settings: &[
            setting(
                "election",
                election!("name"),
                Kind::One("NAME"),
                "",
                "Name of the election, and of its lock. Required",
            ),
            setting("namespace", election!("namespace"), Kind::One("NS"), "default", "Namespace of the lock"),
            setting(
                "lock-type",
                election!("lock"),
                Kind::One("KIND"),
                "leases",
                "What the lock is: leases, configmaps, endpoints, configmapsleases or endpointsleases; the last two are both at once, for a fleet on its way to leases",
            ),
            setting(
                "ttl",
                election!("ttl"),
                Kind::One("DURATION"),
                "10s",
                "How long the lock holds without renewal, rounded up to whole seconds, at least 2s",
            ),
            setting(
                "renew-deadline",
                election!("renew_deadline"),
                Kind::One("DURATION"),
                "a third of the ttl",
                "How long a leader goes on trying to renew",
            ),
            setting(
                "retry-period",
                election!("retry_period"),
                Kind::One("DURATION"),
                "a sixth of the ttl",
                "How long a candidate waits between two tries",
            ),
            setting("id", election!("id"), Kind::One("TEXT"), "the host's name", "What this candidate calls itself"),
            setting(
                "unique-id",
                election!("unique_id"),
                Kind::Switch,
                "false",
                "Appends an underscore and a random UUID to the id, so that a restart is another candidate",
            ),
        ],
    },
    Group {
        title: "Answers",
        settings: &[
            setting(
                "http",
                election!("http"),
                Kind::One("ADDRESS:PORT"),
                "",
                "Where to say who leads, for all elections of the process; without it nowhere",
            ),
            setting(
                "step-down-token-file",
                election!("step_down_token_file"),
                Kind::One("PATH"),
                "",
                "File with the bearer token with which others than this machine may POST /v1/step-down",
            ),
        ],
    },
    Group {
        title: "Workload",
        settings: &[
            setting("pod", election!("pod"), Kind::One("NAME"), "the host's name", "The pod of this candidate")
                .env(&["ELECTOR_POD_NAME"]),
            setting(
                "pod-namespace",
                election!("pod_namespace"),
                Kind::One("NS"),
                "the service account's",
                "The namespace of that pod",
            )
            .env(&["POD_NAMESPACE"]),
            setting(
                "label",
                election!("label"),
                Kind::Switch,
                "true",
                "Keeps the label k8s-elector/status of that pod at leader or standby",
            ),
            setting(
                "leader-service",
                election!("leader_service"),
                Kind::One("NAME"),
                "",
                "Service without a selector, in the pod's namespace, that is to lead to the leader alone",
            ),
            setting(
                "on-start",
                election!("on_start"),
                Kind::One("COMMAND"),
                "",
                "Command to run while this process leads, split at spaces, no shell; ended with the term",
            ),
            setting(
                "on-start-exit",
                election!("on_start_exit"),
                Kind::One("WHAT"),
                "step-down",
                "What follows where that command ends before the term does, or cannot be started: keep (go on leading), step-down (let somebody else lead) or exit (end the process, with status 1)",
            ),
            setting(
                "on-stop",
                election!("on_stop"),
                Kind::One("COMMAND"),
                "",
                "Command to run when it leads no more; finished, or killed, before anybody else can lead",
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
            klog("add_dir_header", false),
            klog("alsologtostderr", false),
            klog("log_backtrace_at", true),
            klog("log_dir", true),
            klog("log_file", true),
            klog("log_file_max_size", true),
            klog("logtostderr", false),
            klog("skip_headers", false),
            klog("skip_log_headers", false),
            klog("stderrthreshold", true),
            klog("v", true),
            klog("vmodule", true),
        ],
    },
];
