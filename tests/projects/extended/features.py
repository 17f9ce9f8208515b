"""The features of `trips`."""

from trips.features import BASELINE as BASELINE
from trips.features import DAY as DAY
from trips.features import FEATURES as FEATURES
from trips.features import KEY as KEY
from trips.features import SLICES as SLICES
from trips.features import TARGET as TARGET
from trips.features import features as features
