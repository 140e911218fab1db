"""What servers offer beside sending: each feature is a file here, and a line below."""

from typing import Final

from primacron.features.feature import Feature
from primacron.features.follow import Following

FEATURES: Final[tuple[type[Feature], ...]] = (Following,)
