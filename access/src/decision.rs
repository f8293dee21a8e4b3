//! Decides from all rules together whether a request is allowed: a pure function of how each rule matches its method and path, of
//! the callers that each allows, and of the caller.

use crate::{by::By, identity::Caller};

/// Whether a rule matches the method and the path of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit<T> {
    /// It matches.
    Takes,
    /// It would match, but an endpoint may read the path as one that it does not match.
    Leaves(T),
    /// It does not match.
    No,
}

/// The decision on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<T> {
    /// It is allowed.
    Allowed {
        /// Whether its caller may decide how this request is sent.
        control: bool,
    },
    /// A rule for this caller would allow it if every endpoint read its path alike: 400.
    Leaves(T),
    /// The caller is not authenticated, and some rule would allow an authenticated one: 401.
    Unauthorized,
    /// No rule allows it for this caller, or for any caller: 403.
    Forbidden,
}

/// Decides on a request. One matching rule that allows the caller is enough, and control is granted if any such rule grants it; the
/// order of rules does not matter. Without rules everything is forbidden, so do not call this if none are configured.
pub fn decide<'a, T>(rules: impl IntoIterator<Item = (Fit<T>, &'a By)>, caller: &Caller<'_>) -> Decision<T> {
    let (mut allowed, mut leaves, mut proof_helps) = (None, None, false);
    for (fit, by) in rules {
        match fit {
            Fit::No => {}
            Fit::Takes if by.takes(caller) => allowed = Some(allowed.unwrap_or(false) || by.grants_control()),
            Fit::Leaves(why) if by.takes(caller) => leaves = leaves.or(Some(why)),
            Fit::Takes | Fit::Leaves(_) => proof_helps |= by.asks_for_proof(),
        }
    }
    match (allowed, leaves) {
        (Some(control), _) => Decision::Allowed { control },
        (None, Some(why)) => Decision::Leaves(why),
        (None, None) if proof_helps && !caller.is_known() => Decision::Unauthorized,
        (None, None) => Decision::Forbidden,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::{CertificateNames, Identity};

    fn by(text: &str) -> By {
        if text.is_empty() { By::default() } else { text.parse().unwrap() }
    }

    fn decide_for(rules: &[(Fit<u8>, &str)], identity: Option<&str>, address: [u8; 4]) -> Decision<u8> {
        let bys: Vec<By> = rules.iter().map(|(_, text)| by(text)).collect();
        let identity = identity.map(Identity::token);
        let caller = Caller { identity, certificate: None, address: address.into() };
        decide(rules.iter().map(|(fit, _)| *fit).zip(&bys), &caller)
    }

    const INSIDE: [u8; 4] = [10, 0, 0, 1];
    const OUTSIDE: [u8; 4] = [192, 0, 2, 1];
    const ALLOWED: Decision<u8> = Decision::Allowed { control: false };

    #[test]
    fn an_unknown_caller_is_unauthorized_where_a_token_would_help_and_others_are_forbidden() {
        let rules = [(Fit::Takes, "token:ci,cidr:10.0.0.0/8"), (Fit::No, "token:ops")];
        assert_eq!(decide_for(&rules, Some("ci"), OUTSIDE), ALLOWED);
        assert_eq!(decide_for(&rules, None, INSIDE), ALLOWED);
        assert_eq!(decide_for(&rules, None, OUTSIDE), Decision::Unauthorized);
        assert_eq!(decide_for(&rules, Some("ops"), OUTSIDE), Decision::Forbidden);
        assert_eq!(decide_for(&[(Fit::Takes, "cidr:10.0.0.0/8")], None, OUTSIDE), Decision::Forbidden);
        assert_eq!(decide_for(&[(Fit::No, "token:ci")], None, OUTSIDE), Decision::Forbidden, "for another path");
        assert_eq!(decide_for(&[], Some("ci"), INSIDE), Decision::Forbidden);
    }

    #[test]
    fn a_certificate_makes_a_caller_known() {
        let (rule, certificate) = (by("token:ci"), CertificateNames::of(&["a.b".to_owned()], &[]));
        let caller = Caller { identity: None, certificate: certificate.as_ref(), address: OUTSIDE.into() };
        assert_eq!(decide([(Fit::<u8>::Takes, &rule)], &caller), Decision::Forbidden);
    }

    #[test]
    fn control_is_granted_by_any_rule_that_permits_the_caller() {
        let rules = [(Fit::Takes, ""), (Fit::Takes, "token:ci control"), (Fit::No, "token:ops control")];
        assert_eq!(decide_for(&rules, Some("ci"), OUTSIDE), Decision::Allowed { control: true });
        assert_eq!(decide_for(&rules, Some("ops"), OUTSIDE), ALLOWED);
        assert_eq!(decide_for(&rules, None, OUTSIDE), ALLOWED);
        assert_eq!(decide_for(&[(Fit::Takes, ""), (Fit::Leaves(1), "token:ci control")], Some("ci"), OUTSIDE), ALLOWED);
    }

    #[test]
    fn an_ambiguous_path_is_reported_only_to_callers_that_its_rule_permits() {
        let rules = [(Fit::Leaves(7), "token:ci")];
        assert_eq!(decide_for(&rules, Some("ci"), OUTSIDE), Decision::Leaves(7));
        assert_eq!(decide_for(&rules, None, OUTSIDE), Decision::Unauthorized);
        assert_eq!(decide_for(&rules, Some("ops"), OUTSIDE), Decision::Forbidden);
        assert_eq!(decide_for(&[(Fit::Leaves(7), ""), (Fit::Takes, "")], None, OUTSIDE), ALLOWED);
    }

    /// A model of a rule: which of four tokens it names, and whether it allows everyone or the inner network.
    #[derive(Clone, Debug)]
    struct RuleModel {
        fit: Fit<u8>,
        tokens: Vec<u8>,
        inside: bool,
        control: bool,
    }

    impl RuleModel {
        fn by(&self) -> By {
            let tokens = self.tokens.iter().map(|token| format!("token:t{token}"));
            let names: Vec<String> = tokens.chain(self.inside.then(|| "cidr:10.0.0.0/8".to_owned())).collect();
            if names.is_empty() {
                return By::default();
            }
            by(&format!("{}{}", names.join(","), if self.control { " control" } else { "" }))
        }

        fn is_for(&self, token: Option<u8>, inside: bool) -> bool {
            let anyone = self.tokens.is_empty() && !self.inside;
            anyone || (inside && self.inside) || token.is_some_and(|token| self.tokens.contains(&token))
        }

        fn grants(&self) -> bool {
            self.control && (self.inside || !self.tokens.is_empty())
        }
    }

    fn rule_model() -> impl Strategy<Value = RuleModel> {
        let fit = prop_oneof![Just(Fit::Takes), (0..3_u8).prop_map(Fit::Leaves), Just(Fit::No)];
        let tokens = proptest::collection::vec(0..4_u8, 0..3);
        (fit, tokens, any::<bool>(), any::<bool>()).prop_map(|(fit, tokens, inside, control)| RuleModel {
            fit,
            tokens,
            inside,
            control,
        })
    }

    proptest! {
        /// Compared with the model of each rule, for all callers, and with the same rules in another order.
        #[test]
        fn the_decision_is_what_the_rules_say_one_by_one(
            rules in proptest::collection::vec(rule_model(), 0..6),
            token in proptest::option::of(0..5_u8),
            inside: bool,
        ) {
            let bys: Vec<By> = rules.iter().map(RuleModel::by).collect();
            let address = if inside { INSIDE } else { OUTSIDE };
            let identity = token.map(|token| Identity::token(&format!("t{token}")));
            let caller = Caller { identity, certificate: None, address: address.into() };
            let decided = decide(rules.iter().map(|rule| rule.fit).zip(&bys), &caller);

            let in_for = |rule: &&RuleModel| rule.is_for(token, inside);
            let takes = |rule: &&RuleModel| rule.fit == Fit::Takes;
            let letting_in: Vec<_> = rules.iter().filter(takes).filter(in_for).collect();
            let expected = if !letting_in.is_empty() {
                Decision::Allowed { control: letting_in.iter().any(|rule| rule.grants()) }
            } else if let Some(why) = rules.iter().filter(in_for).find_map(|rule| match rule.fit {
                Fit::Leaves(why) => Some(why),
                Fit::Takes | Fit::No => None,
            }) {
                Decision::Leaves(why)
            } else if token.is_none() && rules.iter().any(|rule| rule.fit != Fit::No && !rule.tokens.is_empty()) {
                Decision::Unauthorized
            } else {
                Decision::Forbidden
            };
            prop_assert_eq!(decided, expected);

            let reversed = decide(rules.iter().map(|rule| rule.fit).zip(&bys).rev(), &caller);
            match (decided, reversed) {
                // Of several ambiguous paths the first is reported.
                (Decision::Leaves(_), Decision::Leaves(_)) => {}
                (one, other) => prop_assert_eq!(one, other, "in another order"),
            }
        }
    }
}
