//! Traefik with a dynamic configuration from elsewhere.

use std::path::Path;

use super::{Consumer, wheels};

/// Where Traefik reads its dynamic configuration.
#[derive(Clone, Copy, Debug)]
pub enum Provider<'a> {
    /// From all files of a folder, which it watches.
    Folder(&'a Path),
    /// From a URL, which it asks five times a second.
    Http(&'a str),
}

/// Starts Traefik. It takes changes over after a tenth of a second without more of them.
///
/// # Panics
/// Where it cannot be installed or does not come up, with the reason.
pub async fn traefik(provider: Provider<'_>) -> Consumer {
    let program = wheels::traefik();
    let provider = match provider {
        Provider::Folder(folder) => vec![format!("--providers.file.directory={}", folder.display())],
        Provider::Http(url) => {
            vec![format!("--providers.http.endpoint={url}"), "--providers.http.pollInterval=200ms".to_owned()]
        }
    };
    Consumer::start(&program, |_folder, address| {
        let mut args = provider.clone();
        args.push(format!("--entryPoints.load.address={address}"));
        args.extend(["--providers.providersThrottleDuration=100ms", "--log.level=INFO"].map(str::to_owned));
        args.extend(["--global.checkNewVersion=false", "--global.sendAnonymousUsage=false"].map(str::to_owned));
        args
    })
    .await
}
