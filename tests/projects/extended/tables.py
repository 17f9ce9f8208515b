"""The tables of `trips`."""

from trips.tables import TABLES as TABLES
