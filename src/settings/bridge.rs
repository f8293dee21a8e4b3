//! The settings of `fanfare bridge`. Flags concern one bridge.

use std::time::Duration;

use export::sink::Target;

use super::{
    Dashes, Group, Role, Setting, flag, group, key, process, store,
    values::{boolean, name, parsed, time},
};

/// A bridge.
const BRIDGE: &str = "bridge[]";

/// The role.
pub(super) const ROLE: Role = Role {
    name: "bridge",
    about: "Pulls what discover wrote from a store into files",
    dashes: Dashes::Two,
    groups: &[PULL, Group { settings: &store::under(BRIDGE), ..store::GROUP }, process::PROCESS],
};

group!(PULL, "Bridge";
    NAME: Setting<String> = key(BRIDGE, "name").default("bridge, of several bridge-1 and so on").one("NAME", name),
        "Name of the bridge in logs and metrics; no two have the same";
    FROM: Setting<Target> = flag("from").at(BRIDGE, "from").one("PLACE", source),
        "The store: s3://BUCKET/KEY or an http(s) URL; what ends in / is a set of files with a manifest. Required";
    TO: Setting<Target> = flag("to").at(BRIDGE, "to").one("PATH", file),
        "The file, or a directory (ending in /) in which it has the same name as in the store. Required";
    INTERVAL: Setting<Duration> = flag("interval").at(BRIDGE, "interval").default("2s").one("DURATION", time),
        "How often the store is polled, by ETag";
    REQUIRE_MANIFEST: Setting<bool> = flag("require-manifest").at(BRIDGE, "require_manifest").default("false")
        .switch(boolean),
        "Pull nothing that has no manifest. A manifest that exists is verified in any case";
    PULL_TIMEOUT: Setting<Duration> = flag("pull-timeout").at(BRIDGE, "timeout").default("10s").one("DURATION", time),
        "How long one poll may take";
    ONCE: Setting<bool> = flag("once").at(BRIDGE, "once").default("false").switch(boolean),
        "Pull once and exit, with a status other than 0 if that does not succeed within a minute";
);

fn source(text: &str) -> Result<Target, String> {
    match parsed(text)? {
        source @ (Target::S3 { .. } | Target::Http { .. } | Target::File { .. }) => Ok(source),
        _ => Err(format!("{text:?} cannot be pulled from: use s3://bucket/key or a URL")),
    }
}

fn file(text: &str) -> Result<Target, String> {
    match parsed(text)? {
        file @ Target::File { .. } => Ok(file),
        _ => Err(format!("{text:?} is not a path: a bridge writes files of this machine")),
    }
}
