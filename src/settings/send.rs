//! The flags of `fanfare send` that it shares with `fanfare broadcast`: a subset of that role's settings, so that they mean the same.

use super::{
    Dashes, Entry, Role,
    broadcast::{answer, changes, endpoints, time, upstream},
    group, process,
};

/// What the command takes. It is no role: it has no section of the file.
pub(crate) const SEND: Role = Role {
    name: "send",
    about: "Sends one request to every endpoint, and shows what each answered",
    dashes: Dashes::Two,
    groups: &[endpoints::GROUP, endpoints::KUBERNETES, upstream::GROUP, POLICY, TIME, PROCESS],
};

group!(POLICY, "Policy";
    + answer::REQUIRE.entry;
    + answer::ALL_MUST_SUCCEED.entry;
    + answer::SUCCESS.entry;
    + answer::MEMBERS.entry;
    + answer::MIN_ENDPOINTS.entry;
    + answer::WAVES.entry;
    + answer::RETRIES.entry;
    + answer::IDEMPOTENT.entry;
    + Entry { default: "{authority}", ..changes::HOST.entry };
);

group!(TIME, "Time-outs";
    + time::TIMEOUT.entry;
    + time::CONNECT_TIMEOUT.entry;
    + time::FIRST_BYTE_TIMEOUT.entry;
);

group!(PROCESS, "Process";
    + Entry { default: "error", ..process::LOG_LEVEL.entry };
    + process::LOG_FORMAT.entry;
);
