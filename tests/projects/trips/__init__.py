"""A binary problem that stands in for `src/flights`: will a tram or bus arrive late?"""
