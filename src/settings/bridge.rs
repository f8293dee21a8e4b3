//! The settings of `fanfare bridge`.

use super::{Dashes, Group, Kind, Role, process, setting, store::s3};

/// The role.
pub(super) const ROLE: Role = Role {
    name: "bridge",
    about: "Pulls what discover wrote from a store into files",
    dashes: Dashes::Two,
    groups: GROUPS,
};

const GROUPS: &[Group] = &[
    Group {
        title: "Bridge",
        settings: &[
            setting(
                "",
                "bridge[].name",
                Kind::One("NAME"),
                "bridge, of several bridge-1 and so on",
                "Name of the bridge in logs and metrics; no two have the same",
            ),
            setting(
                "from",
                "bridge[].from",
                Kind::One("PLACE"),
                "",
                "The store: s3://BUCKET/KEY or an http(s) URL; what ends in / is a set of files with a manifest. Required",
            ),
            setting(
                "to",
                "bridge[].to",
                Kind::One("PATH"),
                "",
                "The file, or a directory (ending in /) in which it has the name that it has in the store. Required",
            ),
            setting("interval", "bridge[].interval", Kind::One("DURATION"), "2s", "How often is looked, by ETag"),
            setting(
                "require-manifest",
                "bridge[].require_manifest",
                Kind::Switch,
                "false",
                "Take nothing that has no manifest. Where there is one, it is verified in any case",
            ),
            setting("pull-timeout", "bridge[].timeout", Kind::One("DURATION"), "10s", "How long one look may take"),
            setting(
                "once",
                "bridge[].once",
                Kind::Switch,
                "false",
                "Pull once and exit, with a status other than 0 where that does not succeed within a minute",
            ),
        ],
    },
    Group { title: "S3 and HTTP", settings: s3!("bridge[]") },
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
