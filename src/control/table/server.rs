//! The server as a whole, in words.

use super::{row, summary_of, time};
use crate::control::{Answers, ServerStatus};
use std::io::{self, Write};

/// The columns of how long answers took.
const HEAD: [&str; 7] = ["WORKER", "ANSWERS", "50 %", "90 %", "99 %", "99.9 %", "LONGEST"];

/// Writes how the server is: the zones in a line, what was counted, how long answers took.
///
/// # Errors
/// Those of `out`.
pub fn server(status: &ServerStatus, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "Backstop {}, up {}", status.version, time(status.up_s))?;
    writeln!(out, "{}", summary_of(&status.zones.states))?;
    let counted = status.counted.iter().filter(|&(_, &count)| count > 0);
    let counted: Vec<_> =
        counted.map(|(name, count)| [name.replace('_', " "), count.to_string()]).collect();
    let widths = [0, 1].map(|at| counted.iter().map(|row| row[at].len()).max().unwrap_or(0));
    if !counted.is_empty() {
        writeln!(out)?;
    }
    for [name, count] in &counted {
        let [name_width, count_width] = widths;
        writeln!(out, "{name:<name_width$}  {count:>count_width$}")?;
    }
    if status.answers.iter().all(|answers| answers.count == 0) {
        return Ok(());
    }
    writeln!(out, "\nUDP, from taking a batch of requests until their answers are written:")?;
    let rows: Vec<_> = status.answers.iter().map(cells).collect();
    let mut widths = HEAD.map(str::len);
    for cells in &rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = cell.len().max(*width);
        }
    }
    row(&HEAD.map(str::to_owned), &widths, out)?;
    rows.iter().try_for_each(|cells| row(cells, &widths, out))
}

fn cells(answers: &Answers) -> [String; 7] {
    let Answers { worker, count, p50_ns, p90_ns, p99_ns, p999_ns, max_ns } = answers;
    let [p50, p90, p99, p999, max] = [p50_ns, p90_ns, p99_ns, p999_ns, max_ns].map(|&ns| short(ns));
    [worker.clone(), count.to_string(), p50, p90, p99, p999, max]
}

/// Nanoseconds in two digits or more: "0.9us", "14us", "3.2ms".
fn short(ns: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    let &(unit, letters) = UNITS.iter().find(|&&(unit, _)| ns >= unit).unwrap_or(&UNITS[2]);
    let tenths = (ns * 10 + unit / 2) / unit;
    match tenths {
        0..100 => format!("{}.{}{letters}", tenths / 10, tenths % 10),
        _ => format!("{}{letters}", (tenths + 5) / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::{Counts, State};
    use std::collections::BTreeMap;

    #[test]
    fn the_server_is_told_in_words() {
        let answers = |worker: &str, count| Answers {
            worker: worker.into(),
            count,
            p50_ns: 912,
            p90_ns: 1_536,
            p99_ns: 14_336,
            p999_ns: 3_200_000,
            max_ns: 1_500_000_000,
        };
        let mut status = ServerStatus {
            version: "1.2.3".into(),
            up_s: 93_600,
            warnings: Vec::new(),
            zones: Counts {
                states: BTreeMap::from([(State::Ok, 99), (State::Expired, 1)]),
                ..Counts::default()
            },
            counted: [("replies".into(), 20), ("io_dropped".into(), 1), ("panics".into(), 0)]
                .into(),
            answers: vec![answers("0", 20), answers("all", 20)],
        };
        let words = |status: &ServerStatus| {
            let mut out = Vec::new();
            server(status, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let expected = "\
Backstop 1.2.3, up 1d2h
100 zones: 1 expired, 99 ok

io dropped   1
replies     20

UDP, from taking a batch of requests until their answers are written:
WORKER  ANSWERS  50 %   90 %   99 %  99.9 %  LONGEST
0       20       0.9us  1.5us  14us  3.2ms   1.5s
all     20       0.9us  1.5us  14us  3.2ms   1.5s
";
        assert_eq!(words(&status), expected);
        (status.counted, status.answers) = (BTreeMap::new(), vec![answers("all", 0)]);
        assert_eq!(words(&status), "Backstop 1.2.3, up 1d2h\n100 zones: 1 expired, 99 ok\n");
    }
}
