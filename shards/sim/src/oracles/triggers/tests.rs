use super::*;
use crate::oracles::{Guarantee, Ledger};

const VHOST: VhostId = VhostId(0);
const TAKERS: [Taker; 2] = [Taker::Wire(0), Taker::Wire(1)];

/// Triggers 0 to 5, all placed, and two workers that take everything.
fn ledger(windows: [Option<u32>; 2]) -> Ledger {
    let mut ledger = Ledger::default();
    for (taker, window) in TAKERS.into_iter().zip(windows) {
        ledger.worker_comes(taker, VHOST, 0, window);
    }
    for number in 0..6 {
        assert_eq!(ledger.compose_trigger(7, 0, false), number);
        let expected = ledger.trigger_arrives(0, number, VHOST, false);
        ledger.trigger_answered(0, number, expected, true, false);
    }
    ledger
}

fn give(ledger: &mut Ledger, taker: usize, numbers: &[usize]) {
    for number in numbers {
        ledger.trigger_given(0, TAKERS[taker], TriggerId(*number as u64), *number, true);
    }
}

fn handle(ledger: &mut Ledger, taker: usize, numbers: &[usize]) {
    for number in numbers {
        ledger.trigger_handled(TAKERS[taker], TriggerId(*number as u64), true);
    }
}

fn judged(mut ledger: Ledger) -> Vec<Guarantee> {
    ledger.every_trigger_is_accounted_for(0);
    ledger.violations.iter().map(|violation| violation.guarantee).collect()
}

#[test]
fn what_is_given_back_goes_on_in_order() {
    let mut ledger = ledger([Some(3), None]);
    give(&mut ledger, 0, &[0, 1, 2]);
    handle(&mut ledger, 0, &[1]);
    ledger.worker_goes(TAKERS[0]);
    give(&mut ledger, 1, &[0, 2, 3, 4, 5]);
    assert_eq!(judged(ledger), []);
}

#[test]
fn what_is_lost_is_missed() {
    let mut ledger = ledger([Some(9), None]);
    give(&mut ledger, 0, &[0, 1, 2, 3, 4, 5]);
    handle(&mut ledger, 0, &[0, 1, 2, 3, 4]);
    assert_eq!(judged(ledger), [Guarantee::ATriggerIsAcknowledgedOrReported]);
}

#[test]
fn what_is_refused_may_outlive_its_vhost() {
    let refused = |was_given: bool, is_removed: bool| {
        let mut ledger = ledger([Some(2), Some(2)]);
        let number = ledger.compose_trigger(7, 0, false);
        let expected = ledger.trigger_arrives(0, number, VHOST, false);
        if was_given {
            give(&mut ledger, 0, &[number]);
        }
        ledger.all_go(VHOST);
        if is_removed {
            ledger.triggers_dropped(VHOST);
        }
        // The answer leaves late; that the queue was full is its reason.
        ledger.trigger_answered(0, number, expected, false, true);
        ledger.violations.iter().map(|violation| violation.guarantee).collect::<Vec<_>>()
    };
    for is_removed in [false, true] {
        assert_eq!(refused(false, is_removed), []);
        assert_eq!(refused(true, is_removed), [Guarantee::NothingRefusedIsDelivered]);
    }
}

#[test]
fn every_fault_has_its_name() {
    type Act<'a> = &'a dyn Fn(&mut Ledger);
    let first = |windows, act: Act<'_>| {
        let mut ledger = ledger(windows);
        act(&mut ledger);
        judged(ledger)[0]
    };
    let (two, none) = ([Some(2), Some(2)], [None, None]);
    let faults: [(Guarantee, _, Act<'_>); 8] = [
        (Guarantee::WorkersGetWhatTheyTake, two, &|ledger| give(ledger, 0, &[0, 1, 2])),
        (Guarantee::AtMostOnceWithoutAWindow, none, &|ledger| {
            give(ledger, 0, &[0]);
            give(ledger, 1, &[0]);
        }),
        (Guarantee::OneWorkerHasATriggerAtATime, two, &|ledger| {
            give(ledger, 0, &[0]);
            give(ledger, 1, &[0]);
        }),
        (Guarantee::TriggersKeepTheirOrder, none, &|ledger| give(ledger, 0, &[1, 0])),
        (Guarantee::RedeliveredInOrder, two, &|ledger| {
            give(ledger, 0, &[0]);
            ledger.worker_goes(TAKERS[0]);
            give(ledger, 1, &[1]);
        }),
        (Guarantee::NothingCrossesVhosts, two, &|ledger| {
            ledger.worker_comes(TAKERS[0], VhostId(1), 0, None);
            give(ledger, 0, &[0]);
        }),
        (Guarantee::TriggersAreRefusedForAReason, two, &|ledger| {
            let number = ledger.compose_trigger(7, 0, false);
            let expected = ledger.trigger_arrives(0, number, VHOST, false);
            ledger.trigger_answered(0, number, expected, false, false);
        }),
        (Guarantee::NothingRefusedIsDelivered, two, &|ledger| {
            let number = ledger.compose_trigger(7, 0, false);
            let expected = ledger.trigger_arrives(0, number, VHOST, false);
            ledger.trigger_answered(0, number, expected, false, true);
            give(ledger, 0, &[number]);
        }),
    ];
    for (guarantee, windows, act) in faults {
        assert_eq!(first(windows, act), guarantee);
    }
}
