"""Pure maths of decoding: arrays in, decisions out.

Shared noise, the seeded sampler, agreement, stopping and the rule for one more draft token. Device and edge
both stand on it, so everything here is a function of its arguments. `docs/vectors/decoding.json` holds test
vectors for other languages.
"""

from .agreement import common_prefix, is_nearly_as_good, lenient_prefix
from .drafting import chance_of_all, one_more
from .noise import gumbel, hash_u32
from .sampler import log_probability, pick, pick_rows, probabilities, score_of, scores
from .sampling import Sampling
from .stopping import Finish, cut

__all__ = [
    "Finish",
    "Sampling",
    "chance_of_all",
    "common_prefix",
    "cut",
    "gumbel",
    "hash_u32",
    "is_nearly_as_good",
    "lenient_prefix",
    "log_probability",
    "one_more",
    "pick",
    "pick_rows",
    "probabilities",
    "score_of",
    "scores",
]
