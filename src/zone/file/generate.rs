//! `$GENERATE`: one line that stands for many records, as BIND has it.
//!
//! `$GENERATE start-stop[/step] owner [TTL] [class] type data`, where `$` in a word stands for
//! the number, `${offset[,width[,base]]}` for a changed one (base d, o, x or X; n or N: the
//! hexadecimal digits from the last to the first with dots between them), and `\$` for a
//! dollar sign.

use super::lexer::Entry;

/// The entries that this one stands for.
pub(super) fn entries(
    entry: &Entry,
) -> Result<impl Iterator<Item = Result<Entry, String>> + '_, String> {
    let words = entry.words().skip(1);
    let range = words.clone().next().and_then(range).ok_or("$GENERATE needs a range: 1-10/2")?;
    let template = words.skip(1);
    if template.len() < 3 {
        return Err("$GENERATE needs a range, an owner, a type and data".into());
    }
    let (from, to, step) = range;
    Ok((from..=to).step_by(step).map(move |number| {
        let filled = template.clone().map(|word| fill(word, number));
        let filled = filled.collect::<Option<Vec<_>>>();
        let filled = filled.ok_or("$GENERATE: a `${offset,width,base}` is malformed")?;
        Ok(Entry::of(entry.line, filled.iter().map(String::as_str)))
    }))
}

fn range(word: &str) -> Option<(i64, i64, usize)> {
    let (ends, step) = word.split_once('/').unwrap_or((word, "1"));
    let (from, to) = ends.split_once('-')?;
    let end = |text: &str| text.parse::<u32>().ok().map(i64::from);
    let step = step.parse().ok().filter(|&step| step > 0)?;
    let (from, to) = (end(from)?, end(to)?);
    (from <= to).then_some((from, to, step))
}

fn fill(word: &str, number: i64) -> Option<String> {
    let mut out = String::with_capacity(word.len() + 8);
    let mut rest = word;
    while let Some(at) = rest.find(['$', '\\']) {
        out.push_str(&rest[..at]);
        let (sign, after) = rest[at..].split_at(1);
        if sign == "\\" {
            if !after.starts_with('$') {
                out.push('\\');
            }
            let escaped = after.len().min(1);
            out.push_str(&after[..escaped]);
            rest = &after[escaped..];
        } else if let Some(format) = after.strip_prefix('{') {
            let (format, after) = format.split_once('}')?;
            out.push_str(&formatted(format, number)?);
            rest = after;
        } else {
            out.push_str(&number.to_string());
            rest = after;
        }
    }
    out.push_str(rest);
    Some(out)
}

fn formatted(format: &str, number: i64) -> Option<String> {
    let mut parts = format.splitn(3, ',');
    let offset: i32 = parts.next()?.parse().ok()?;
    let width: usize = parts.next().map_or(Some(0), |width| width.parse().ok())?;
    let number = number + i64::from(offset);
    if width > 63 {
        return None;
    }
    let base = parts.next().unwrap_or("d");
    if let "n" | "N" = base {
        return nibbles(number, width, base == "N");
    }
    let number = u64::try_from(number).ok()?;
    Some(match base {
        "d" => format!("{number:0width$}"),
        "o" => format!("{number:0width$o}"),
        "x" => format!("{number:0width$x}"),
        "X" => format!("{number:0width$X}"),
        _ => return None,
    })
}

/// As names in ip6.arpa have them: the dots count in the width, and an even one ends with a dot. A
/// negative number is that modulo 2^32.
fn nibbles(number: i64, width: usize, upper: bool) -> Option<String> {
    let number = u32::try_from(number.rem_euclid(1 << 32)).ok()?;
    let digits = if upper { format!("{number:X}") } else { format!("{number:x}") };
    let count = digits.len().max(width.div_ceil(2));
    let padded = format!("{digits:0>count$}");
    let mut reversed: String = padded.chars().rev().flat_map(|digit| [digit, '.']).collect();
    if 2 * count != width {
        reversed.pop();
    }
    Some(reversed)
}
