//! How hard a receiver may be pressed: one that says it is too busy gets fewer tries at once, and is left alone for
//! as long as it asks to be, within bounds; one that does well gets a place more with each round.

use std::time::{Duration, Instant};

/// Answers of one moment halve the places once.
const ONE_MOMENT: Duration = Duration::from_secs(1);
/// The longest a lane is closed because its receiver asked for it. The delivery it answered may be put off for longer.
pub(super) const LONGEST_REST: Duration = Duration::from_mins(10);

/// One lane's pressure.
#[derive(Debug)]
pub(super) struct Pressure {
    /// How many tries at once are well borne, as far as is known; infinite at first.
    borne: f64,
    lowered: Option<Instant>,
    rests_until: Option<Instant>,
}

impl Pressure {
    pub(super) fn new() -> Self {
        Self {
            borne: f64::INFINITY,
            lowered: None,
            rests_until: None,
        }
    }

    /// How many tries at once, of `most`.
    pub(super) fn places(&self, most: u32) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number from 1 to a u32"
        )]
        let places = self.borne.clamp(1.0, f64::from(most.max(1))) as u32;
        places
    }

    /// Until when the receiver asked to be left alone, if that is not over.
    pub(super) fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.rests_until.filter(|until| now < *until)
    }

    /// The receiver said, or showed by its silence, that it has too much to do.
    pub(super) fn too_much(&mut self, most: u32, asked: Option<Duration>, now: Instant) {
        if self.lowered.is_none_or(|at| now >= at + ONE_MOMENT) {
            self.borne = f64::from(self.places(most)) / 2.0;
            self.lowered = Some(now);
        }
        let rest = asked.map(|asked| now + asked.min(LONGEST_REST));
        self.rests_until = self.rests_until.max(rest);
    }

    /// A try went well.
    pub(super) fn well(&mut self, most: u32) {
        if self.borne < f64::from(most) {
            self.borne = self.borne.max(1.0);
            self.borne += 1.0 / self.borne;
        }
    }

    /// Whether it remembers nothing that a new one would not know.
    pub(super) fn is_idle(&self, most: u32, now: Instant) -> bool {
        self.borne >= f64::from(most) && self.rests_until(now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_halved_once_a_moment_and_come_back_one_a_round() {
        let start = Instant::now();
        let mut pressure = Pressure::new();
        assert_eq!(pressure.places(8), 8);
        for _ in 0..8 {
            pressure.too_much(8, None, start);
        }
        assert_eq!(pressure.places(8), 4);
        for second in 1..10 {
            pressure.too_much(8, None, start + Duration::from_secs(second));
        }
        assert_eq!(pressure.places(8), 1);
        pressure.well(8);
        assert_eq!(pressure.places(8), 2);
        let rounds = (0..).take_while(|_| {
            pressure.well(8);
            pressure.places(8) < 8
        });
        assert!((20..40).contains(&rounds.count()));
        assert!(pressure.is_idle(8, start));
    }

    #[test]
    fn a_receiver_is_left_alone_as_long_as_it_asks_within_bounds() {
        let start = Instant::now();
        let mut pressure = Pressure::new();
        pressure.too_much(8, Some(Duration::from_secs(20)), start);
        pressure.too_much(8, Some(Duration::from_secs(5)), start);
        let twenty = start + Duration::from_secs(20);
        assert_eq!(pressure.rests_until(start), Some(twenty));
        assert_eq!(pressure.rests_until(twenty), None);
        pressure.too_much(8, Some(Duration::from_hours(24)), start);
        assert_eq!(pressure.rests_until(start), Some(start + LONGEST_REST));
    }
}
