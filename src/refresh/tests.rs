use super::*;

const TIMES: Times = Times { refresh_ms: 100_000, retry_ms: 20_000 };
const TOLERANCE_MS: u64 = 500_000;
/// In the middle of every range of chance.
const EVEN: u32 = 1 << 31;

fn policy(lower_serial: LowerSerial) -> Policy {
    Policy { ixfr: true, lower_serial, pin_tolerance_ms: TOLERANCE_MS }
}

fn held(source: Option<usize>) -> Have {
    Have { serial: Serial(5), times: TIMES, source, contact_ms: 0 }
}

fn zone_of(independent: &[bool], lower_serial: LowerSerial) -> Refresh {
    let source = Some(0);
    Refresh::new(independent.iter().copied(), policy(lower_serial), Some(held(source)), 1000)
}

/// A zone of serial 5 that came from the first of so many primaries with one lineage.
fn zone(primaries: usize) -> Refresh {
    zone_of(&vec![false; primaries], LowerSerial::AcceptAfterExpiry)
}

fn empty(primaries: usize) -> Refresh {
    Refresh::new(vec![false; primaries], policy(LowerSerial::Keep), None, 0)
}

fn asks(primary: usize, ask: Ask) -> Step {
    Step { asks: vec![(primary, ask)], contact: None }
}

fn probes(primaries: &[usize]) -> Step {
    let asks = primaries.iter().map(|&primary| (primary, Ask::Soa)).collect();
    Step { asks, contact: None }
}

fn contact(primary: usize) -> Step {
    Step { asks: vec![], contact: Some(primary) }
}

fn nothing() -> Step {
    Step::default()
}

fn ixfr(serial: u32) -> Ask {
    Ask::Ixfr(Serial(serial))
}

fn probed(primary: usize, serial: u32) -> Event {
    Event::Probed { primary, serial: Some(Serial(serial)) }
}

fn silent(primary: usize) -> Event {
    Event::Probed { primary, serial: None }
}

fn notify(primary: usize, serial: Option<u32>) -> Event {
    Event::Notified { primary, serial: serial.map(Serial) }
}

fn told(serial: u32) -> Event {
    Event::Told(Serial(serial))
}

fn installed(serial: u32) -> Event {
    Event::Installed(Serial(serial), TIMES)
}

const FAILED: Event = Event::Failed(Failure::Primary);

#[test]
fn a_due_zone_asks_for_the_soa_and_rests_when_nothing_is_new() {
    let mut zone = zone(1);
    assert_eq!(zone.on(Event::Due, 1000, 0), probes(&[0]));
    assert_eq!(zone.next_ms(), u64::MAX, "it waits for the answer");
    assert_eq!(zone.on(probed(0, 5), 2000, 0), contact(0));
    assert_eq!(zone.next_ms(), 102_000);
    assert_eq!(zone.on(Event::Due, 102_000, 0), probes(&[0]));
    assert_eq!(zone.on(probed(0, 6), 102_000, 0), asks(0, ixfr(5)));
    assert_eq!(zone.on(installed(6), 103_000, u32::MAX), contact(0));
    assert!((193_000..=193_001).contains(&zone.next_ms()), "up to a tenth earlier");
}

#[test]
fn a_zone_without_data_is_transferred_without_a_probe_and_backs_off() {
    let mut zone = empty(1);
    let mut now = 0;
    for wait in [1_000, 2_000, 4_000, 8_000] {
        assert_eq!(zone.on(Event::Due, now, EVEN), asks(0, Ask::Axfr));
        assert_eq!(zone.on(FAILED, now, EVEN), nothing());
        assert_eq!(zone.next_ms() - now, wait);
        now = zone.next_ms();
    }
    assert_eq!(zone.on(notify(0, None), now - 5, 0), asks(0, Ask::Axfr), "a NOTIFY need not wait");
    for _ in 0..40 {
        zone.on(FAILED, now, EVEN);
        zone.on(Event::Due, now, 0);
    }
    assert_eq!(zone.failures(), 44);
    zone.on(FAILED, now, EVEN);
    assert_eq!(zone.next_ms() - now, EMPTY_WAIT_MS_MAX);
}

#[test]
fn all_primaries_are_asked_at_once_and_the_newest_serial_wins() {
    let mut zone = zone(3);
    assert_eq!(zone.on(Event::Due, 0, 0), probes(&[0, 1, 2]));
    assert_eq!(zone.on(probed(1, 6), 10, 0), nothing(), "another may have a newer one");
    assert_eq!(zone.on(probed(0, 5), 20, 0), contact(0));
    assert_eq!(zone.on(probed(2, 7), 30, 0), asks(2, ixfr(5)));
    assert_eq!(zone.on(installed(7), 40, 0), contact(2));
    assert_eq!(zone.source(), Some(2));
    assert_eq!((zone.failures(), zone.next_ms()), (0, 100_040));
}

#[test]
fn who_does_not_answer_is_not_waited_for_once_another_has() {
    let mut zone = zone(3);
    zone.on(Event::Due, 0, 0);
    assert_eq!(zone.on(probed(1, 6), 10, 0), nothing());
    assert_eq!(zone.next_ms(), 10 + GATHER_MS);
    assert_eq!(zone.on(Event::Due, 10 + GATHER_MS, 0), asks(1, ixfr(5)));
    assert_eq!(zone.next_ms(), u64::MAX);
    assert_eq!(zone.on(installed(6), 1500, 0), contact(1));
    // Late, and with something: it is followed up. The other is dead.
    assert_eq!(zone.on(probed(0, 8), 3000, 0), asks(0, ixfr(6)));
    zone.on(installed(8), 3100, 0);
    assert_eq!(zone.on(silent(2), 11_000, 0), nothing());
    assert_eq!(zone.failures(), 0);
}

#[test]
fn a_primary_that_is_still_being_asked_is_not_asked_again() {
    let mut zone = zone(2);
    zone.on(Event::Due, 0, 0);
    zone.on(probed(0, 5), 0, 0);
    assert_eq!(zone.on(Event::Due, GATHER_MS, 0), nothing(), "the round ends");
    assert!(!zone.is_asking());
    assert_eq!(zone.on(Event::Check, 2000, 0), probes(&[0]));
    assert_eq!(zone.on(probed(1, 6), 2500, 0), nothing(), "the answer serves this round");
    assert_eq!(zone.on(probed(0, 5), 2600, 0), Step { contact: Some(0), ..asks(1, ixfr(5)) });
}

#[test]
fn a_newer_serial_told_during_a_transfer_is_fetched_after_it() {
    let mut zone = zone(2);
    zone.on(Event::Due, 0, 0);
    zone.on(probed(0, 6), 0, 0);
    assert_eq!(zone.on(Event::Due, GATHER_MS, 0), asks(0, ixfr(5)));
    assert_eq!(zone.on(probed(1, 9), 2000, 0), nothing());
    let step = zone.on(installed(6), 3000, 0);
    assert_eq!(step, Step { contact: Some(0), ..asks(1, ixfr(6)) });
}

#[test]
fn a_notify_is_followed_up_with_its_sender_and_if_that_fails_with_the_others_at_once() {
    let mut zone = zone(3);
    assert_eq!(zone.on(notify(1, Some(6)), 0, 0), asks(1, ixfr(5)));
    assert!(zone.is_urgent());
    assert_eq!(zone.on(FAILED, 0, 0), probes(&[0, 2]));
    assert_eq!(zone.on(probed(2, 6), 0, 0), nothing());
    assert_eq!(zone.on(probed(0, 5), 0, 0), Step { contact: Some(0), ..asks(2, ixfr(5)) });
    assert_eq!(zone.on(FAILED, 0, EVEN), nothing());
    // A newer version is known, and nobody gave it: that is a failure, though the first agrees.
    assert_eq!((zone.next_ms(), zone.failures()), (20_000, 1));
    assert_eq!(zone.on(Event::Due, 20_000, 0), probes(&[0, 1, 2]));
}

#[test]
fn a_notify_does_not_wait_for_probes_under_way() {
    let mut zone = zone(2);
    zone.on(Event::Due, 0, 0);
    assert_eq!(zone.on(notify(1, Some(6)), 10, 0), asks(1, ixfr(5)));
    // What the probes bring is heard: the transfer fails, and nobody is asked twice.
    assert_eq!(zone.on(probed(0, 6), 20, 0), nothing());
    assert_eq!(zone.on(FAILED, 30, 0), asks(0, ixfr(5)));
}

#[test]
fn a_transfer_that_fails_moves_on_to_the_next_newest_at_once() {
    let mut zone = zone(3);
    zone.on(Event::Due, 0, 0);
    zone.on(probed(0, 6), 0, 0);
    zone.on(probed(1, 8), 0, 0);
    assert_eq!(zone.on(probed(2, 7), 0, 0), asks(1, ixfr(5)));
    assert_eq!(zone.on(FAILED, 0, 0), asks(2, ixfr(5)));
    assert_eq!(zone.on(FAILED, 0, 0), asks(0, ixfr(5)));
    assert_eq!(zone.on(FAILED, 0, EVEN), nothing());
    assert_eq!((zone.failures(), zone.next_ms()), (1, 20_000));
}

#[test]
fn a_zone_without_data_takes_the_first_ones_and_hears_what_the_others_have() {
    let mut zone = empty(3);
    let first = Step { asks: vec![(0, Ask::Axfr), (1, Ask::Soa), (2, Ask::Soa)], contact: None };
    assert_eq!(zone.on(Event::Due, 0, 0), first);
    zone.on(probed(1, 6), 0, 0);
    zone.on(silent(2), 0, 0);
    assert_eq!(zone.on(FAILED, 0, 0), asks(1, Ask::Axfr));
    assert_eq!(zone.on(FAILED, 0, 0), asks(2, Ask::Axfr), "it may give what it does not tell");
    assert_eq!(zone.on(installed(4), 0, EVEN), contact(2));
    assert_eq!(zone.next_ms(), 20_000, "who has a newer one and did not give it is asked soon");
}

#[test]
fn a_zone_without_data_does_not_wait_for_a_newer_version_than_it_can_have() {
    let mut zone = empty(3);
    zone.on(Event::Due, 0, 0);
    zone.on(FAILED, 0, 0);
    assert_eq!(zone.on(probed(1, 6), 0, 0), asks(1, Ask::Axfr));
    zone.on(probed(2, 7), 0, 0);
    assert_eq!(zone.on(installed(6), 0, 0), Step { contact: Some(1), ..asks(2, ixfr(6)) });
}

#[test]
fn a_primary_that_promises_more_than_it_gives_is_asked_again_when_it_is_due() {
    let mut zone = zone(1);
    zone.on(Event::Due, 0, 0);
    zone.on(probed(0, 99), 0, 0);
    assert_eq!(zone.on(told(5), 0, 0), contact(0));
    assert_eq!((zone.failures(), zone.next_ms()), (0, 100_000));
}

#[test]
fn a_failed_ixfr_becomes_an_axfr_of_the_same_primary_at_once() {
    let mut zone = zone(2);
    zone.on(notify(1, None), 0, 0);
    assert_eq!(zone.on(Event::Failed(Failure::BadIxfr), 0, 0), asks(1, Ask::Axfr));
    zone.on(installed(7), 0, 0);
    assert_eq!(zone.on(notify(1, None), 0, 0), asks(1, ixfr(7)));
    assert_eq!(zone.on(Event::Failed(Failure::NoIxfr), 0, 0), asks(1, Ask::Axfr));
    zone.on(installed(8), 0, 0);
    assert_eq!(zone.on(notify(1, None), 1, 0), probes(&[1]), "it is remembered");
    assert_eq!(zone.on(probed(1, 9), 1, 0), asks(1, Ask::Axfr));
    zone.on(installed(9), 1, 0);
    assert_eq!(zone.on(notify(1, None), IXFR_REFUSED_MS, 0), asks(1, ixfr(9)));
}

#[test]
fn a_single_newer_soa_in_answer_to_an_ixfr_asks_for_an_axfr() {
    let mut zone = zone(1);
    zone.on(notify(0, None), 0, 0);
    assert_eq!(zone.on(told(9), 0, 0), asks(0, Ask::Axfr));
}

#[test]
fn a_lower_serial_everywhere_is_no_contact_and_has_a_name() {
    let mut zone = zone(2);
    zone.on(Event::Due, 0, 0);
    zone.on(probed(0, 3), 0, 0);
    assert_eq!(zone.lower(), None, "the other may have ours");
    assert_eq!(zone.on(probed(1, 4), 0, EVEN), nothing());
    assert_eq!((zone.lower(), zone.failures()), (Some(Serial(4)), 1));
    assert_eq!(zone.next_ms(), 20_000);
    // One that has ours ends it.
    zone.on(Event::Due, 20_000, 0);
    zone.on(probed(0, 3), 20_000, 0);
    assert_eq!(zone.on(probed(1, 5), 20_000, 0), contact(1));
    assert_eq!((zone.lower(), zone.failures()), (None, 0));
}

#[test]
fn a_lower_serial_is_taken_as_the_policy_says() {
    use LowerSerial::{Accept, AcceptAfterExpiry, Keep};
    // The second primary does not answer: whether it has ours, nobody knows.
    for (policy, before, after) in [
        (Keep, nothing(), nothing()),
        (AcceptAfterExpiry, nothing(), asks(0, Ask::Axfr)),
        (Accept, nothing(), asks(0, Ask::Axfr)),
    ] {
        let mut zone = zone_of(&[false, false], policy);
        zone.on(Event::Due, 0, 0);
        zone.on(probed(0, 4), 0, 0);
        assert_eq!(zone.on(silent(1), 0, 0), before, "{policy:?}");
        assert_eq!(zone.lower(), Some(Serial(4)));
        assert_eq!(zone.on(Event::Expired, 90_000, 0), probes(&[0, 1]), "a last look");
        zone.on(probed(0, 4), 90_000, 0);
        assert_eq!(zone.on(silent(1), 90_000, 0), after, "{policy:?}");
        assert_eq!(zone.is_forced(), policy != Keep);
        if policy != Keep {
            assert_eq!(zone.on(installed(4), 90_000, 0), contact(0));
            assert_eq!((zone.lower(), zone.failures()), (None, 0));
        }
    }
    let mut zone = zone_of(&[false, false], Accept);
    zone.on(Event::Due, 0, 0);
    zone.on(probed(0, 3), 0, 0);
    assert_eq!(zone.on(probed(1, 4), 0, 0), asks(1, Ask::Axfr), "all have a lower one");
    assert_eq!(zone.on(FAILED, 0, 0), asks(0, Ask::Axfr));
    assert!(zone.is_forced());
}

#[test]
fn a_newer_serial_that_is_told_and_not_given_keeps_a_lower_one_from_being_taken() {
    use LowerSerial::{Accept, AcceptAfterExpiry, Keep};
    for policy in [Keep, AcceptAfterExpiry, Accept] {
        // A lower one, a newer one, and one that has nothing to do with either.
        let mut zone = zone_of(&[false, false, true], policy);
        assert_eq!(zone.on(Event::Due, 0, 0), probes(&[0, 1]));
        zone.on(probed(0, 3), 0, 0);
        assert_eq!(zone.on(probed(1, 10), 0, 0), asks(1, ixfr(5)));
        assert_eq!(zone.on(FAILED, 0, 0), nothing(), "{policy:?}");
        assert_eq!((zone.lower(), zone.failures()), (None, 1), "not all have a lower one");
        zone.on(Event::Expired, 90_000, 0);
        zone.on(probed(0, 3), 90_000, 0);
        zone.on(probed(1, 10), 90_000, 0);
        let expired = zone.on(FAILED, 90_000, 0);
        let any = if policy == Keep { asks(2, Ask::Axfr) } else { asks(0, Ask::Axfr) };
        assert_eq!(expired, any, "{policy:?}: what any has is better than nothing");
    }
}

#[test]
fn an_independent_primary_is_not_turned_to_before_its_time_and_only_with_an_axfr() {
    let mut zone = zone_of(&[true, true], LowerSerial::Keep);
    assert_eq!(zone.on(Event::Due, 0, 0), probes(&[0]), "the other's serials say nothing");
    assert_eq!(zone.on(silent(0), 0, EVEN), nothing());
    assert_eq!(zone.failures(), 1);
    assert_eq!(zone.on(notify(1, Some(9)), 1000, 0), nothing(), "its time has not come");
    let late = TOLERANCE_MS;
    assert_eq!(zone.on(Event::Due, late, 0), probes(&[0]));
    assert_eq!(zone.on(silent(0), late, 0), asks(1, Ask::Axfr));
    assert!(zone.is_forced(), "its serial need not be higher");
    assert_eq!(zone.on(installed(2), late, 0), contact(1));
    assert_eq!(zone.source(), Some(1));
    // Now the other one is the stranger.
    assert_eq!(zone.on(notify(0, Some(99)), late + 1, 0), nothing());
    assert_eq!(zone.on(notify(1, Some(3)), late + 1, 0), asks(1, ixfr(2)));
}

#[test]
fn primaries_that_share_a_lineage_stand_in_for_each_other_before_an_independent_one() {
    let mut zone = zone_of(&[false, true, false], LowerSerial::Keep);
    let late = TOLERANCE_MS;
    assert_eq!(zone.on(Event::Due, late, 0), probes(&[0, 2]));
    zone.on(silent(0), late, 0);
    assert_eq!(zone.on(probed(2, 6), late, 0), asks(2, ixfr(5)));
    assert_eq!(zone.on(FAILED, late, 0), asks(1, Ask::Axfr), "they were of no use for too long");
}

#[test]
fn another_lineage_with_the_same_serial_is_taken_on_if_its_data_are_ours() {
    let mut zone = zone_of(&[true, true], LowerSerial::Keep);
    zone.on(Event::Due, TOLERANCE_MS, 0);
    zone.on(silent(0), TOLERANCE_MS, 0);
    assert_eq!(zone.on(told(5), TOLERANCE_MS, 0), contact(1));
    assert_eq!(zone.source(), Some(1));
}

#[test]
fn a_version_of_unknown_origin_is_compared_with_those_that_share_a_lineage_only() {
    let of = |independent: [bool; 2]| {
        Refresh::new(independent, policy(LowerSerial::Keep), Some(held(None)), 0)
    };
    assert_eq!(of([true, false]).on(Event::Due, 0, 0), probes(&[1]));
    assert_eq!(of([true, true]).on(Event::Due, 0, 0), asks(0, Ask::Axfr));
}

#[test]
fn other_data_under_our_serial_are_fetched_from_who_has_them_and_from_no_one_else() {
    let mut zone = zone(2);
    assert_eq!(zone.on(Event::Diverged(1), 0, 0), asks(1, Ask::Axfr));
    assert!(!zone.is_forced());
    assert_eq!(zone.on(FAILED, 0, EVEN), nothing());
    assert_eq!((zone.failures(), zone.next_ms()), (0, 20_000), "what we have is still good");
    zone.on(Event::Diverged(1), 0, 0);
    assert_eq!(zone.on(installed(5), 0, 0), contact(1));
}

#[test]
fn a_retransfer_is_asked_of_one_after_the_other() {
    let mut zone = zone(2);
    assert_eq!(zone.on(Event::Retransfer, 0, 0), asks(0, Ask::Axfr));
    assert!(zone.is_forced());
    assert_eq!(zone.on(FAILED, 0, 0), asks(1, Ask::Axfr));
    assert!(zone.is_forced());
    assert_eq!(zone.on(told(5), 0, 0), contact(1), "nothing is different");
    assert!(!zone.is_asking());
}

#[test]
fn a_version_that_is_held_is_contact_and_not_transferred_again() {
    let mut zone = zone(2);
    zone.on(notify(0, Some(6)), 0, 0);
    assert_eq!(zone.on(Event::Held(Serial(6), TIMES), 0, 0), contact(0));
    assert_eq!((zone.failures(), zone.next_ms()), (0, TIMES.refresh_ms));
    assert_eq!(zone.on(notify(1, Some(6)), 5000, 0), nothing(), "we know it");
    assert_eq!(zone.on(notify(0, None), 5000, 0), probes(&[0]), "a look is enough");
    assert_eq!(zone.on(probed(0, 6), 5000, 0), contact(0));
    assert!(!zone.is_asking());
    zone.on(Event::Due, 8000, 0);
    assert_eq!(zone.on(probed(1, 5), 8000, 0), contact(1), "this one has ours still");
    assert_eq!(zone.on(probed(0, 7), 8000, 0), asks(0, ixfr(5)));
    zone.on(installed(7), 8000, 0);
    assert_eq!(zone.on(notify(0, None), 20_000, 0), asks(0, ixfr(7)));
}

#[test]
fn a_held_version_of_a_zone_without_data_is_asked_about_at_its_own_interval() {
    let mut zone = empty(1);
    zone.on(Event::Due, 0, 0);
    zone.on(Event::Held(Serial(6), TIMES), 0, 0);
    assert_eq!(zone.next_ms(), TIMES.refresh_ms);
    assert_eq!(zone.on(Event::Due, 100_000, 0), probes(&[0]));
    assert_eq!(zone.on(probed(0, 6), 100_000, 0), contact(0));
    zone.on(Event::Due, 200_000, 0);
    assert_eq!(zone.on(probed(0, 7), 200_000, 0), asks(0, Ask::Axfr));
}

#[test]
fn a_version_that_the_operator_goes_back_to_is_no_contact() {
    let back = Have { serial: Serial(4), ..held(Some(0)) };
    let mut zone = Refresh::new([false], policy(LowerSerial::Keep), Some(back), 1000);
    assert_eq!(zone.on(Event::Held(Serial(5), TIMES), 0, 0), nothing());
    zone.on(Event::Due, 1000, 0);
    assert_eq!(zone.on(probed(0, 5), 1000, 0), contact(0), "what is not wanted is not taken");
    zone.on(Event::Due, 2000, 0);
    assert_eq!(zone.on(probed(0, 6), 2000, 0), asks(0, ixfr(4)));
}

#[test]
fn what_was_held_is_of_the_primary_that_it_came_from_once_it_passes() {
    let mut zone = zone_of(&[true, true], LowerSerial::Keep);
    assert_eq!(zone.on(Event::Due, TOLERANCE_MS, 0), probes(&[0]));
    assert_eq!(zone.on(silent(0), TOLERANCE_MS, 0), asks(1, Ask::Axfr));
    zone.on(Event::Held(Serial(7), TIMES), TOLERANCE_MS, 0);
    assert_eq!(zone.source(), Some(0), "of what is served");
    assert_eq!(zone.on(installed(7), TOLERANCE_MS, 0), nothing());
    assert_eq!(zone.source(), Some(1));
}

#[test]
fn what_comes_while_transferring_is_done_afterwards_if_still_of_use() {
    let mut zone = zone(1);
    zone.on(notify(0, None), 0, 0);
    assert_eq!(zone.on(notify(0, Some(6)), 0, 0), nothing());
    assert_eq!(zone.on(installed(6), 0, 0), contact(0), "6 is here");
    zone.on(notify(0, Some(7)), 0, 0);
    zone.on(notify(0, Some(8)), 0, 0);
    let step = zone.on(installed(7), 0, 0);
    assert_eq!(step, Step { contact: Some(0), ..asks(0, ixfr(7)) });
    zone.on(Event::Retransfer, 0, 0);
    zone.on(notify(0, Some(9)), 0, 0);
    let step = zone.on(installed(9), 0, 0);
    assert_eq!(step, Step { contact: Some(0), ..asks(0, Ask::Axfr) }, "retransfers are kept");
}

#[test]
fn a_notify_that_is_ahead_of_its_primary_is_followed_up_once_more() {
    let mut zone = zone(1);
    assert_eq!(zone.on(notify(0, Some(6)), 0, 0), asks(0, ixfr(5)));
    assert_eq!(zone.on(told(5), 10, 0), contact(0));
    assert_eq!(zone.next_ms(), 10 + NOTIFY_HOLD_MS);
    assert_eq!(zone.on(Event::Due, zone.next_ms(), 0), asks(0, ixfr(5)));
    assert_eq!(zone.on(told(5), 2000, 0), contact(0));
    assert_eq!(zone.next_ms(), 102_000, "and not for ever");
}

#[test]
fn a_notify_that_comes_during_a_transfer_is_followed_up_at_once_after_it() {
    let mut zone = zone(1);
    assert_eq!(zone.on(notify(0, None), 5000, 0), asks(0, ixfr(5)));
    zone.on(notify(0, None), 5010, 0);
    // What it was about came after the question.
    let step = zone.on(told(5), 5020, 0);
    assert_eq!(step, Step { contact: Some(0), ..asks(0, ixfr(5)) });
    zone.on(notify(0, None), 5030, 0);
    assert_eq!(zone.on(told(5), 5040, 0), contact(0), "the second time in a row it can wait");
    assert_eq!(zone.next_ms(), 5040 + NOTIFY_HOLD_MS);
    assert_eq!(zone.on(Event::Check, 5050, 0), probes(&[0]));
    assert_eq!(zone.on(probed(0, 6), 5060, 0), asks(0, ixfr(5)));
    zone.on(notify(0, None), 5070, 0);
    let step = zone.on(installed(6), 5080, 0);
    assert_eq!(step, Step { contact: Some(0), ..asks(0, ixfr(6)) }, "there is something again");
}

#[test]
fn notifies_about_nothing_are_followed_up_once_a_second() {
    let mut zone = zone(1);
    let mut asked = 0;
    for now in 0..10_000 {
        let mut step = zone.on(notify(0, None), now, 0);
        if step.asks.is_empty() && now >= zone.next_ms() {
            step = zone.on(Event::Due, now, 0);
        }
        if !step.asks.is_empty() {
            asked += 1;
            zone.on(told(5), now, 0);
        }
    }
    assert_eq!(asked, 10);
    assert_eq!(zone.on(notify(0, Some(5)), 1_000_000, 0), nothing(), "we have that");
}

/// Whatever happens, in whatever order: at most one transfer at a time, no primary probed twice at
/// once, an IXFR of the version's lineage alone, and always a next time.
#[test]
fn it_always_goes_on() {
    let mut random = 1_u64;
    let mut dice = move |of: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % of
    };
    for run in 0..3000 {
        let independent: Vec<bool> = (0..=dice(3)).map(|_| dice(3) == 0).collect();
        let policies = [LowerSerial::Keep, LowerSerial::AcceptAfterExpiry, LowerSerial::Accept];
        let policy = policy(policies[usize::try_from(dice(3)).unwrap()]);
        let mut zone = Refresh::new(independent.clone(), policy, None, 0);
        let (mut now, mut transfer, mut probing) = (0, None, vec![false; independent.len()]);
        let mut story = Vec::new();
        for _ in 0..60 {
            now += dice(3000);
            let primary = usize::try_from(dice(independent.len() as u64)).unwrap();
            let serial = Serial(u32::try_from(4 + dice(4)).unwrap());
            let event = match dice(12) {
                0 => Event::Due,
                1 => Event::Check,
                2 => Event::Retransfer,
                3 => Event::Diverged(primary),
                4 | 5 => Event::Notified { primary, serial: Some(serial) },
                6 => Event::Expired,
                7 | 8 if probing[primary] => {
                    probing[primary] = false;
                    Event::Probed { primary, serial: Some(serial).filter(|_| dice(3) > 0) }
                }
                _ if transfer.is_some() => {
                    transfer = None;
                    match dice(5) {
                        0 => Event::Told(serial),
                        1 => Event::Failed(Failure::NoIxfr),
                        2 => Event::Failed(Failure::Primary),
                        3 if dice(2) == 0 => Event::Held(serial, TIMES),
                        _ => Event::Installed(serial, TIMES),
                    }
                }
                _ => Event::Due,
            };
            let source = zone.source();
            story.push((now, event));
            for (primary, ask) in zone.on(event, now, 0).asks {
                if ask == Ask::Soa {
                    assert!(!std::mem::replace(&mut probing[primary], true), "run {run}: twice");
                    continue;
                }
                assert!(transfer.replace(ask).is_none(), "run {run}: two transfers");
                let ours = zone.source().or(source);
                let mixed = independent[primary] && ours != Some(primary);
                assert!(!matches!(ask, Ask::Ixfr(_)) || !mixed, "run {run}: lineages are mixed");
            }
            let waits = transfer.is_some() || probing.iter().any(|&probing| probing);
            assert!(waits || zone.next_ms() < u64::MAX, "run {run} stands still: {story:?}");
        }
    }
}
