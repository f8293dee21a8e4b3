//! Warnings about valid settings without an effect, or with a probably unintended one.

use proxy::config::{Listener, Match, Redeliver, Require, Route, TlsTo};
use runtime::{
    config::{Problem, Problems},
    tls::Roots,
};

use super::{Config, Target};

impl Config {
    /// Valid settings that are probably a mistake, each with its path in the file.
    pub(crate) fn warnings(&self) -> Problems {
        if let Some(warnings) = &self.written.warnings {
            return warnings.clone();
        }
        let mut warnings = Problems::default();
        if self.proxy.tracing.is_none() && self.written.has("trace_sample") {
            let message = "nothing is traced: say where spans are sent with otlp_endpoint (--otlp-endpoint)".to_owned();
            warnings.push(Problem { path: "trace_sample".to_owned(), message });
        }
        for (l, listener) in self.proxy.listeners.iter().enumerate() {
            let mut warn = |path: String, message: String| {
                warnings.push(Problem { path: format!("broadcast[{l}]{path}"), message });
            };
            of_listener(listener, &mut warn);
            for (r, route) in listener.routes.iter().enumerate() {
                let mut warn = |path: &str, message: String| warn(format!(".routes[{r}]{path}"), message);
                of_route(route, self.targets.get(&route.cluster), &mut warn);
                let before = listener.routes[..r].iter().position(|before| before.matches.is_everything());
                if let Some(before) = before {
                    warn(
                        "",
                        format!("no request reaches this route: routes[{before}] matches everything; put it last"),
                    );
                }
            }
        }
        warnings
    }
}

fn of_listener(listener: &Listener, warn: &mut impl FnMut(String, String)) {
    for (index, allowed) in listener.allow.iter().enumerate() {
        lower_case(allowed.matches.methods.iter().map(|method| &**method), |message| {
            warn(format!(".allow[{index}]"), message);
        });
    }
    if listener.head.target > listener.head.bytes {
        let message = "is more than max_head, which applies first (431)".to_owned();
        warn(".max_target".to_owned(), message);
    }
}

fn of_route(route: &Route, target: Option<&Target>, warn: &mut impl FnMut(&str, String)) {
    let Match { methods, .. } = &route.matches;
    lower_case(methods.iter().map(|method| &**method), |message| warn(".match.methods", message));
    lower_case(route.policy.success.methods(), |message| warn(".success", message));
    lower_case(route.policy.idempotent.iter().map(|method| &**method), |message| warn(".idempotent", message));
    if route.policy.tls.as_ref().is_some_and(|tls| tls.to != TlsTo::None && tls.settings.roots == Roots::Insecure) {
        let message =
            "no certificate of an endpoint is verified: an attacker who can redirect connections gets every request";
        warn(".to.tls.insecure", message.to_owned());
    }
    of_redelivery(route, warn);
    let timeouts = &route.policy.timeouts;
    let total = runtime::duration::format(timeouts.total);
    if timeouts.connect > timeouts.total {
        warn(".connect_timeout", format!("is more than the {total} time-out of the whole request"));
    }
    if timeouts.first_byte.is_some_and(|first_byte| first_byte > timeouts.total) {
        warn(".first_byte_timeout", format!("is more than the {total} time-out of the whole request"));
    }
    if let Some(Target::Endpoints(endpoints)) = target {
        let there = match endpoints.len() {
            1 => "one endpoint is".to_owned(),
            count => format!("{count} endpoints are"),
        };
        if let Require::Count(required) = route.policy.require
            && required.get() > endpoints.len()
        {
            warn(".require", format!("every request fails: {there} named, {required} must be ok"));
        }
        if route.policy.min_endpoints > endpoints.len() {
            warn(".min_endpoints", format!("every request is refused: {there} named"));
        }
    }
}

fn of_redelivery(route: &Route, warn: &mut impl FnMut(&str, String)) {
    let Some(redeliver) = &route.policy.redeliver else { return };
    lower_case(redeliver.methods.iter().map(|method| &**method), |message| warn(".redeliver.methods", message));
    let comes = |method: &str| {
        let taken = &route.matches.methods;
        taken.is_empty() || taken.iter().any(|taken| **taken == *method)
    };
    let by_default = Redeliver::lasting(redeliver.rules.keep).methods;
    for method in redeliver.methods.iter().filter(|method| !by_default.contains(method) && !comes(method)) {
        warn(".redeliver.methods", format!("{method} need not be named: the methods of `match` let none of them in"));
    }
    if !redeliver.methods.iter().any(|method| comes(method)) {
        let message = "no request of this route is sent again: the methods of `match` are none of these".to_owned();
        warn(".redeliver.methods", message);
    }
    let (longest, all) = (redeliver.rules.max_body, redeliver.limits.max_bytes);
    if longest > all {
        warn(".redeliver.max_body", format!("is more than the {all} B of max_bytes, and a longer one is never kept"));
    }
}

/// Methods are case-sensitive, and nearly all are upper case.
fn lower_case<'a>(methods: impl Iterator<Item = &'a str>, mut warn: impl FnMut(String)) {
    for method in methods.filter(|method| method.bytes().any(|b| b.is_ascii_lowercase())) {
        let capitals = method.to_ascii_uppercase();
        warn(format!("{method:?} is not the method {capitals}: methods are case-sensitive"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(routes: &str, more: &str) -> Vec<String> {
        let text = format!("broadcast: [{{listen: '127.0.0.1:0', {more} routes: [{routes}]}}]");
        let config = Config::parse(text.as_bytes()).unwrap_or_else(|problems| panic!("{text}: {problems}"));
        config.warnings().iter().map(ToString::to_string).collect()
    }

    fn one(keys: &str) -> Vec<String> {
        warnings(&format!("{{to: {{endpoints: ['192.0.2.1:80', '192.0.2.2:80']}}, {keys}}}"), "")
    }

    #[test]
    fn unreachable_policies_and_routes_are_warned_about() {
        assert_eq!(one("require: 2, connect_timeout: 10s, min_endpoints: 2"), [""; 0]);
        assert_eq!(
            one("require: 3"),
            ["broadcast[0].routes[0].require: every request fails: 2 endpoints are named, 3 must be ok"]
        );
        assert!(
            one("min_endpoints: 3")[0].starts_with("broadcast[0].routes[0].min_endpoints: every request is refused")
        );
        assert!(
            one("timeout: 1s, connect_timeout: 2s")[0].starts_with("broadcast[0].routes[0].connect_timeout: is more")
        );
        assert!(one("timeout: 1s, first_byte_timeout: 2s")[0].contains("first_byte_timeout: is more than the 1s"));
    }

    #[test]
    fn methods_that_are_never_sent_again_are_warned_about() {
        assert_eq!(one("redeliver: {for: 1h, methods: [POST, PUT]}"), [""; 0]);
        let post = one("match: {methods: [PUT]}, redeliver: {for: 1h, methods: [POST, PUT]}");
        let at = "broadcast[0].routes[0].redeliver";
        assert_eq!(post, [format!("{at}.methods: POST need not be named: the methods of `match` let none of them in")]);
        let none = one("match: {methods: [GET]}, redeliver: {for: 1h}");
        assert!(none[0].starts_with(&format!("{at}.methods: no request of this route is sent again")), "{none:?}");
        let longest = one("redeliver: {for: 1h, max_body: 2MiB, max_bytes: 1MiB}");
        assert!(longest[0].starts_with(&format!("{at}.max_body: is more than the 1048576 B")), "{longest:?}");
        assert!(one("redeliver: {for: 1h, methods: [put]}")[0].contains("case-sensitive"));
    }

    #[test]
    fn a_route_after_one_that_matches_everything_is_warned_about() {
        let to = "to: {endpoints: '192.0.2.1:80'}";
        let all =
            format!("{{match: {{path: /a}}, {to}}}, {{match: {{path: '/*'}}, {to}}}, {{match: {{path: /b}}, {to}}}");
        assert_eq!(
            warnings(&all, ""),
            ["broadcast[0].routes[2]: no request reaches this route: routes[1] matches everything; put it last"]
        );
        assert_eq!(warnings(&format!("{{match: {{path: '/*', method: GET}}, {to}}}, {{{to}}}"), ""), [""; 0]);
    }

    #[test]
    fn methods_in_small_letters_are_said_wherever_they_stand() {
        let route = "{match: {methods: [PURGE, ban]}, success: ['purge=200'], idempotent: [PURGE, ban],
            to: {endpoints: '192.0.2.1:80'}}";
        let said = warnings(route, "allow: ['PURGE /a', 'get /b'],");
        let paths = [
            "broadcast[0].allow[1]",
            "broadcast[0].routes[0].match.methods",
            "broadcast[0].routes[0].success",
            "broadcast[0].routes[0].idempotent",
        ];
        assert_eq!(said.len(), paths.len(), "{said:?}");
        for (said, path) in said.iter().zip(paths) {
            assert!(said.starts_with(path) && said.contains("case-sensitive"), "{said}");
        }
    }
}
