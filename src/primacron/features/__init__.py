"""Optional capabilities of servers: each feature is one file in this folder and one entry in ``FEATURES``."""

from typing import Final

from primacron.features.channels import Channels
from primacron.features.feature import Feature
from primacron.features.follow import Following

FEATURES: Final[tuple[type[Feature], ...]] = (Channels, Following)
