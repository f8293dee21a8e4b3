//! Participants are told of terms in order, and waited for.

use testkit::eventually::within;

use super::*;

fn term(transitions: u64) -> Term {
    Term { uid: "uid".into(), transitions }
}

#[tokio::test]
async fn a_term_has_ended_when_all_have_ended_it() {
    let mut participants = Participants::default();
    let (mut one, mut two) = (participants.join(), participants.join());
    assert!(participants.ended(), "there was none");
    participants.began(&term(1));
    participants.end(&term(1), Cause::Expired, BootTime::default());
    for terms in [&mut one, &mut two] {
        assert!(matches!(terms.next().await, Some(TermEvent::Began(began)) if began == term(1)));
    }
    assert!(!participants.ended());
    let first = one.next().await;
    assert!(matches!(&first, Some(TermEvent::Ended(ending)) if ending.cause == Cause::Expired));
    drop(first);
    assert!(!participants.ended(), "the other has not");
    drop(two.next().await);
    within("the end", participants.all_ended()).await;
    assert!(participants.ended());
}

#[tokio::test]
async fn a_participant_that_is_gone_is_not_waited_for() {
    let mut participants = Participants::default();
    let terms = participants.join();
    participants.began(&term(1));
    participants.end(&term(1), Cause::ShutDown, BootTime::default());
    assert!(!participants.ended());
    drop(terms);
    assert!(participants.ended(), "what it was told and has not looked at is gone with it");
    participants.began(&term(2));
    participants.end(&term(2), Cause::ShutDown, BootTime::default());
    assert!(participants.ended());
}
