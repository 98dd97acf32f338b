//! What a worker tells people, and no result depends on: what its modules say, how old what it commits is.

use clickmill_schemas::{ModuleDigest, Offset};

use super::Worker;
use crate::module_log::{LineKind, ModuleLine};

impl Worker {
    /// Hands on what the modules have said, for people.
    pub(super) fn drain_logs(&mut self) {
        for line in self.chain.take_logs() {
            self.module_line(LineKind::Log, self.position, line.stage, line.sha256, line.text, line.left_out);
        }
    }

    pub(super) fn module_line(
        &self,
        kind: LineKind,
        offset: Offset,
        stage: String,
        sha256: ModuleDigest,
        text: String,
        left_out: u64,
    ) {
        self.shared.log.push(ModuleLine {
            number: 0,
            at_ms: self.shared.clock.now_ms(),
            partition: self.owner.partition,
            offset,
            deployment: self.deployment,
            stage,
            sha256,
            kind,
            text,
            left_out,
        });
    }

    /// Records of a batch of this time are in the next commit. Of one that a fault takes back, they are again.
    pub(super) fn note_append(&mut self, appended_ms: i64) {
        self.oldest_append_ms = Some(self.oldest_append_ms.map_or(appended_ms, |oldest| oldest.min(appended_ms)));
    }

    /// What the next commit says of it. Of a run that nobody reads yet nothing gets to be seen, and it has no latency.
    pub(super) fn take_oldest_append(&mut self) -> Option<i64> {
        self.oldest_append_ms.take().filter(|_| !self.shared.gives_up)
    }
}
