//! A dry run: the request is not sent, and its answer reports the plan.

use super::{Admitted, Carrier, Next, RequestContext, answer, answer::Answered};
use crate::{
    clock,
    exchange::{alarm::Alarm, quorum::Quorum},
    metrics::RequestResult,
    report,
};

const STATUS: u16 = 200;

impl RequestContext<'_> {
    /// Answers a dry run, without waiting for the body.
    pub(super) async fn answer_dry_run(
        &self,
        admitted: Admitted<'_>,
        carrier: &mut Carrier<'_>,
        alarm: &mut Alarm,
    ) -> Next {
        let Admitted { route, target, identity, .. } = admitted;
        let next = if carrier.inbound().skip() { self.next(carrier) } else { Next::Linger };
        let target = target.as_deref().unwrap_or(self.head.target());
        let body = report::dry_run(&route, self.about(target));
        let quorum = Quorum::new(route.config.policy.require, route.members.len());
        let mut out = answer::report((STATUS, body), (&quorum, None), &route, self, next);
        out.flush(&mut carrier.outbound(), self.pace(&route), alarm).await;
        let (result, status, sent) = (RequestResult::DryRun, STATUS, out.body_bytes);
        let took = clock::now().saturating_duration_since(self.started);
        route.metrics.answered(result, status, took, self.sampled());
        route.metrics.completed(result);
        self.record_span(Some(&route), identity.as_ref(), (result, status, None));
        let log = &self.worker.shared.log;
        if let Some(wanted) = log.wants(result) {
            let answered = Answered { wanted, result, status, sent, took, reason: None };
            answer::record(self, identity, answered, None).write(log, &route.config.name, result, None);
        }
        next
    }
}
