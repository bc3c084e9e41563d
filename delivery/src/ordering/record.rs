//! What is known of one key: which message of it is the last that has a place, and how far they have ended.

use serde::{Deserialize, Serialize};

/// How many ends are remembered, for those whose job comes once more after a crash.
const ENDS: usize = 16;
/// How many messages can be given up before their turn; of more only the newest are known.
const GIVEN_UP: usize = 1_000;

/// How a message's delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    /// It arrived, or was given up.
    #[serde(rename = "d")]
    Passed,
    /// It is a dead letter, and those behind it go on without it.
    #[serde(rename = "s")]
    Skipped,
    /// It is a dead letter, and those behind it wait.
    #[serde(rename = "b")]
    Blocks,
    /// It is a dead letter, and those behind it become dead letters too.
    #[serde(rename = "p")]
    Parks,
}

/// What a job is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Everything before it has ended: be sent.
    Now,
    /// Wait behind the one before it.
    Later,
    /// Become a dead letter behind one.
    Park,
    /// It has ended in this way; only its job has not.
    Ended(End),
    /// Those behind it have gone on: be sent, in no order.
    Passed,
}

/// The place of a message in its key: its sequence in the log of messages, and that of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    #[serde(rename = "n")]
    pub(crate) number: u64,
    /// 0: none that is known of.
    #[serde(rename = "b")]
    pub(crate) before: u64,
}

/// One key of one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The last message that has a place.
    tail: u64,
    /// Every message up to this one has ended.
    done: u64,
    /// Places that the matcher's cursor has perhaps not passed, so that it may give them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    given: Vec<Step>,
    /// The last messages that ended, with their runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ends: Vec<(u64, u32, End)>,
    /// The dead letter that holds the others up, and whether they become dead letters too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stuck: Option<(u64, bool)>,
    /// Messages given up before their turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    given_up: Vec<Step>,
}

impl Record {
    /// Gives a message its place behind the last, or the one it was given before. None for a message of before those
    /// that are known, as where a cursor was put back by hand.
    pub(super) fn place(&mut self, number: u64, cursor: u64) -> Option<Step> {
        self.given.retain(|step| step.number > cursor);
        if let Some(step) = self.given.iter().find(|step| step.number == number) {
            return Some(*step);
        }
        if number <= self.tail {
            return None;
        }
        let before = self.tail;
        let step = Step { number, before };
        self.given.push(step);
        self.tail = number;
        Some(step)
    }

    /// What a message's job is to do, in its run.
    pub(super) fn turn(&self, step: Step, run: u32) -> Turn {
        let ended = |(number, of_run, _): &&(u64, u32, End)| (*number, *of_run) == (step.number, run);
        if let Some((_, _, end)) = self.ends.iter().find(ended) {
            return Turn::Ended(*end);
        }
        if step.number <= self.done {
            return Turn::Passed;
        }
        if step.before <= self.done {
            return Turn::Now;
        }
        match self.stuck {
            Some((_, true)) if run == 1 => Turn::Park,
            _ => Turn::Later,
        }
    }

    /// A message whose turn it was has ended.
    pub(super) fn end(&mut self, step: Step, run: u32, end: End) {
        self.ends.retain(|(number, ..)| *number != step.number);
        self.ends.push((step.number, run, end));
        if self.ends.len() > ENDS {
            self.ends.remove(0);
        }
        if step.number <= self.done || step.before > self.done {
            return;
        }
        match end {
            End::Passed | End::Skipped => self.pass(step.number),
            End::Blocks => self.stuck = Some((step.number, false)),
            End::Parks => self.stuck = Some((step.number, true)),
        }
    }

    /// A dead letter was given up: nobody waits for it any more.
    pub(super) fn give_up(&mut self, step: Step) {
        if step.number <= self.done {
            return;
        }
        if step.before <= self.done {
            self.pass(step.number);
            return;
        }
        if !self.given_up.contains(&step) {
            self.given_up.push(step);
        }
        if self.given_up.len() > GIVEN_UP {
            self.given_up.remove(0);
        }
    }

    /// The dead letter that holds the others up arrived in some other way.
    pub(super) fn arrived(&mut self, number: u64) -> bool {
        let held_up = self.stuck.is_some_and(|(stuck, _)| stuck == number);
        if held_up {
            self.pass(number);
        }
        held_up
    }

    /// The message behind which the next in line waits.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Whether nothing of the key is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.done >= self.tail
    }

    fn pass(&mut self, number: u64) {
        self.done = self.done.max(number);
        while let Some(at) = self.given_up.iter().position(|step| step.before <= self.done) {
            let step = self.given_up.swap_remove(at);
            self.done = self.done.max(step.number);
        }
        if self.stuck.is_some_and(|(stuck, _)| stuck <= self.done) {
            self.stuck = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(numbers: &[u64]) -> (Record, Vec<Step>) {
        let mut record = Record::default();
        let steps = numbers
            .iter()
            .map(|number| record.place(*number, 0).unwrap())
            .collect();
        (record, steps)
    }

    fn turns(record: &Record, steps: &[Step]) -> Vec<Turn> {
        steps.iter().map(|step| record.turn(*step, 1)).collect()
    }

    #[test]
    fn a_place_is_given_once_however_batches_are_cut() {
        let (mut record, steps) = record(&[3, 5, 8]);
        assert_eq!(steps[2], Step { number: 8, before: 5 });
        // The matcher was killed before its cursor moved.
        assert_eq!(record.place(5, 2), Some(steps[1]));
        assert_eq!(record.place(9, 2), Some(Step { number: 9, before: 8 }));
        assert_eq!(record.place(8, 5), Some(steps[2]));
        assert_eq!(
            record.place(5, 5),
            None,
            "it was forgotten once the cursor had passed it"
        );
    }

    #[test]
    fn one_is_sent_after_the_other() {
        let (mut record, steps) = record(&[3, 5, 8]);
        assert_eq!(turns(&record, &steps), [Turn::Now, Turn::Later, Turn::Later]);
        record.end(steps[0], 1, End::Passed);
        assert_eq!(
            turns(&record, &steps),
            [Turn::Ended(End::Passed), Turn::Now, Turn::Later]
        );
        record.end(steps[1], 1, End::Passed);
        record.end(steps[2], 1, End::Passed);
        assert!(record.is_idle());
    }

    #[test]
    fn a_dead_letter_blocks_until_it_arrives_or_is_given_up() {
        let (mut record, steps) = record(&[3, 5, 8]);
        record.end(steps[0], 1, End::Blocks);
        assert_eq!(
            turns(&record, &steps),
            [Turn::Ended(End::Blocks), Turn::Later, Turn::Later]
        );
        assert_eq!(
            record.turn(steps[0], 7),
            Turn::Now,
            "redriven, it is first in line"
        );
        let mut discarded = record.clone();
        discarded.give_up(steps[0]);
        assert_eq!(discarded.turn(steps[1], 1), Turn::Now);
        record.end(steps[0], 7, End::Passed);
        assert_eq!(record.turn(steps[1], 1), Turn::Now);
        assert_eq!(record.stuck, None);
    }

    #[test]
    fn skipped_it_is_passed_over() {
        let (mut record, steps) = record(&[3, 5]);
        record.end(steps[0], 1, End::Skipped);
        assert_eq!(record.turn(steps[1], 1), Turn::Now);
        assert_eq!(
            record.turn(steps[0], 9),
            Turn::Passed,
            "redriven, it has no order any more"
        );
    }

    #[test]
    fn parked_ones_keep_their_order_for_whoever_redrives_them() {
        let (mut record, steps) = record(&[3, 5, 8]);
        record.end(steps[0], 1, End::Parks);
        assert_eq!(record.turn(steps[1], 1), Turn::Park);
        assert_eq!(record.turn(steps[2], 1), Turn::Park);
        let late = record.place(9, 8).unwrap();
        assert_eq!(record.turn(late, 1), Turn::Park);
        assert_eq!(
            record.turn(steps[2], 7),
            Turn::Later,
            "redriven, they wait for each other"
        );
        record.end(steps[0], 7, End::Passed);
        assert_eq!(record.turn(steps[1], 7), Turn::Now);
        record.end(steps[1], 7, End::Passed);
        record.end(steps[2], 7, End::Passed);
        assert_eq!(record.turn(late, 7), Turn::Now);
    }

    #[test]
    fn what_is_given_up_before_its_turn_is_not_waited_for() {
        let (mut record, steps) = record(&[3, 5, 8, 9]);
        record.end(steps[0], 1, End::Parks);
        record.give_up(steps[2]);
        record.give_up(steps[1]);
        assert_eq!(record.turn(steps[3], 7), Turn::Later);
        assert!(record.arrived(3));
        assert_eq!(record.done(), 8);
        assert_eq!(record.turn(steps[3], 7), Turn::Now);
        assert!(!record.arrived(9));
    }

    #[test]
    fn a_late_end_moves_nothing() {
        let (mut record, steps) = record(&[3, 5, 8]);
        record.end(steps[2], 1, End::Passed);
        assert_eq!(record.done(), 0);
        record.end(steps[0], 1, End::Passed);
        record.end(steps[0], 2, End::Blocks);
        assert_eq!((record.done(), record.stuck), (3, None));
    }
}
