"""Record of what was found in the sound of a video: which track, how much of it, and what was done to it."""

from dataclasses import dataclass, field
from typing import Any

from affpipe.media.sound.mixing import LOST_DB
from affpipe.media.sound.soundclock import Told
from affpipe.media.tracks import Choice

MOSTLY = 0.5  # share of silence above which it is reported
MANY = 0.1  # the same for frames whose timestamps were ignored
WORTH = 0.001  # the same for what was cut, clipped, left as a gap or taken from one channel


@dataclass
class Heard:
    """Counts of what an audio track gave so far.

    Attributes:
        track: the track that was taken.
        rate_hz, samples: sample rate and number of samples of the track itself.
        values: samples of all its channels.
        mended: those of `values` that were not finite and were set to 0.
        out_hz, given: rate of the axis, and samples on it.
        placed: samples on the axis that the track fills.
        holes: samples on the axis that lie in gaps of the track.
        cut: samples left out because their time was taken.
        clipped: samples beyond full scale.
        silent: samples in cells without a swing over one step of 16 bits.
        louder: samples taken from one channel because the mix had lost it.
        sounds: whether a frame of the track swings by over a step of 16 bits.
        swing: half the range of the samples in a cell of the axis, for the cell where it is largest.
        clock: record of the track's timestamps.
        bad: reasons for rejected packets.
    """

    track: Choice | None = None
    rate_hz: int = 0
    samples: int = 0
    values: int = 0
    mended: int = 0
    out_hz: int = 0
    given: int = 0
    placed: int = 0
    holes: int = 0
    cut: int = 0
    clipped: int = 0
    silent: int = 0
    louder: int = 0
    sounds: bool = False
    swing: float = 0.0
    clock: Told = field(default_factory=Told)
    bad: list[str] = field(default_factory=list)

    @property
    def shares(self) -> dict[str, float]:
        """Shares of the axis in [0, 1]; `mended` is a share of the track's own values. `silent` includes what the track lacks."""
        counts = {name: getattr(self, name) for name in ("silent", "holes", "cut", "clipped", "louder")}
        out = {"missing": self.given - self.placed} | counts
        return {name: min(1.0, count / max(1, self.given)) for name, count in out.items()} | {"mended": self.mended / max(1, self.values)}

    @property
    def faults(self) -> tuple[str, ...]:
        """Faults of the sound that a person should know, empty if there are none."""
        share, per = self.shares, "of the sound"
        said = (
            (self.track and self.track.said, self.track and self.track.said),
            (self.bad, f"{len(self.bad)} undecodable audio packets left as silence ({self.bad[0] if self.bad else ''})"),
            (self.clock.joins, f"the clock of the sound starts anew {self.clock.joins} times, joined"),
            (self._stray > MANY, f"{self._stray:.0%} of the timestamps of the sound jump about, passed over"),
            (share["holes"] > WORTH, f"{share['holes']:.1%} {per} is gaps, left as silence"),
            (share["cut"] > WORTH, f"{share['cut']:.1%} {per} cut, as its time was taken"),
            (share["clipped"] > WORTH, f"{share['clipped']:.1%} {per} beyond full scale, clipped"),
            (self.mended, f"{self.mended} samples that are no number, set to 0"),
            (share["louder"] > WORTH, f"{share['louder']:.1%} {per} from one channel, as the mix is over {LOST_DB:.0f} dB below it"),
            (share["silent"] > MOSTLY, f"{share['silent']:.1%} {per} is silent"),
        )
        return tuple(text for there, text in said if there)

    @property
    def _stray(self) -> float:
        return self.clock.stray / max(1, self.clock.frames)

    def facts(self) -> dict[str, Any]:
        """Return the record, ready for JSON."""
        own = {"rate_hz": self.rate_hz, "stray_timestamps": self.clock.stray, "joins": self.clock.joins, "bad_packets": len(self.bad)}
        counts = {"samples": self.samples, "clipped_samples": self.clipped, "mended_samples": self.mended}
        return {"track": self.track and self.track.facts(), **own, **counts, "shares": self.shares, "faults": list(self.faults)}
