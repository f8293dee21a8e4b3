//! TLS in the file: what listeners show their clients.

use runtime::{
    config::Section,
    tls::{CertificateFiles, ClientAuth, MinVersion, Protocol, ServerSettings},
};

use crate::settings::process::{METRICS_TLS_CERT, METRICS_TLS_KEY};

/// Reads `tls` of the admin listener, if it is there.
pub(super) fn of_admin(admin: &Section<'_>) -> Option<ServerSettings> {
    let section = admin.optional_section("tls")?;
    let (cert, key) = (METRICS_TLS_CERT.required(&section), METRICS_TLS_KEY.required(&section));
    section.finish();
    Some(ServerSettings {
        certificates: vec![CertificateFiles { cert: cert?, key: key? }],
        client_ca: None,
        client_auth: ClientAuth::default(),
        min_version: MinVersion::default(),
        protocols: vec![Protocol::Http1],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::Task, config::Config};

    fn from_flags(flags: &[&str]) -> Result<Config, String> {
        let arguments = ["fanfare", "broadcast", "--interface=127.0.0.1:0", "--service=a/b"].iter().chain(flags);
        let Ok(Task::Serve(flags)) = crate::cli::parse_with(arguments.copied(), &|_| None) else { panic!("{flags:?}") };
        flags.config().map_err(|problems| problems.to_string())
    }

    #[test]
    fn the_admin_listener_has_a_certificate_by_flags_or_by_the_file() {
        let config = from_flags(&["--metrics-tls-cert=/m.crt", "--metrics-tls-key=/m.key"]).expect("it is valid");
        let files = CertificateFiles { cert: "/m.crt".into(), key: "/m.key".into() };
        assert_eq!(config.admin_tls.as_ref().expect("it speaks TLS").certificates, [files]);
        let file = b"
admin: {listen: 0.0.0.0:8081, tls: {cert: /m.crt, key: /m.key}}
broadcast: [{listen: 127.0.0.1:0, routes: [{to: {service: a/b}}]}]
";
        assert_eq!(Config::parse(file).expect("it is valid"), config);
        assert_eq!(from_flags(&[]).expect("it is valid").admin_tls, None);
    }

    #[test]
    fn half_of_a_pair_is_told_by_the_flag_that_is_missing() {
        for (flag, problem) in [
            ("--metrics-tls-cert=/c", "--metrics-tls-key: is missing"),
            ("--metrics-tls-key=/c", "--metrics-tls-cert: is missing"),
        ] {
            assert_eq!(from_flags(&[flag]).expect_err(flag), problem);
        }
    }
}
