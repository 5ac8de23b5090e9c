//! What is due, and when: a merged connection has no clock of its own.

use std::time::Instant;

use super::{Merge, MergeRoute};

impl Merge {
    /// Does what is due.
    pub fn expire(&mut self, now: Instant) -> Vec<MergeRoute> {
        self.look_around(now);
        self.expire_asks(now);
        self.expire_questions(now);
        self.expire_texts(now);
        self.expire_pulls(now);
        self.publish(now);
        let show = self.progress.expire(now);
        self.show(show, now);
        self.expire_refreshes(now);
        self.leave(now);
        std::mem::take(&mut self.routes)
    }

    /// When [`Merge::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let questions = self.asked_client.values().filter_map(|asked| asked.deadline).min();
        let due = [
            self.greeting_deadline(),
            self.asks_deadline(),
            questions,
            self.texts.values().min().copied(),
            self.to_pull.values().min().copied(),
            self.diagnostics.next_deadline(),
            self.progress.next_deadline(),
            self.refreshes.values().min().copied(),
            self.leaving.as_ref().map(|(_, until)| *until),
        ];
        due.into_iter().flatten().min()
    }
}
