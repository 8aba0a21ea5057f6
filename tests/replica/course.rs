//! What is told of a transfer while it lasts.

use super::scripted::primary::Gate;
use super::scripted::*;
use backstop::replica::Doing;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_transfer_that_takes_its_time_is_told_by_status_and_by_the_log() {
    let zone = Zone::new("slow.test.", [3600, 1, 86_400], 1);
    let primary = Primary::of([127, 6, 7, 1], &zone);
    let gate = Arc::new(Gate::default());
    let (of_script, held) = (Arc::clone(&zone), Arc::clone(&gate));
    primary.script(move |asked| {
        if !asked.is("slow.test.", rtype::AXFR) {
            return of_script.answer(asked);
        }
        let whole = of_script.whole(1);
        let mut acts = vec![Act::Message(asked.reply(rcode::NOERROR, &whole[..2]))];
        // Fast enough not to be given up, and for longer than the log waits.
        for i in 0..40 {
            let text = |n| Rr::txt(&format!("n{i}.{n}.slow.test."), &"x".repeat(200));
            let more: Vec<_> = (0..10).map(text).collect();
            acts.push(Act::Wait(Duration::from_millis(100)));
            acts.push(Act::Message(asked.reply(rcode::NOERROR, &more)));
        }
        acts.push(Act::Gate(Arc::clone(&held)));
        acts.push(Act::Message(asked.reply(rcode::NOERROR, &whole[2..])));
        acts
    });
    let config = format!("[[zone]]\nname = \"{}\"\n{}\n", zone.apex, primary.config());
    let secondary = Secondary::start(&config);
    let status = secondary.wait_status(&zone.apex, |status| {
        status.transfer.as_ref().is_some_and(|transfer| transfer.records == 402)
    });
    let transfer = status.transfer.unwrap();
    assert_eq!(transfer.doing, Doing::Receiving);
    assert!(transfer.octets > 400 * 200, "{transfer:?}");
    let line = secondary.wait_log(&["being transferred", "slow.test.", "records="]);
    assert!(!line.contains("records=0"), "{line}");
    assert!(secondary.logged(&["being transferred", "slow.test."]) < 20, "now and then");
    gate.open();
    secondary.wait_serial(&zone.apex, 1);
    secondary.wait_status(&zone.apex, |status| {
        status.transfer.is_none() && status.last_transfer.is_some()
    });
}
