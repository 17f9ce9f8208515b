-- Score a table in Databricks SQL with an endpoint that `mlops reconcile` has created. The table has
-- the features as `mlops featurize` writes them; the model's MLflow signature names the columns and
-- their types.
SELECT
  flight_id,
  ai_query(
    'flights-late',
    request => named_struct(
      'carrier', carrier,
      'origin', origin,
      'dest', dest,
      'weekday', weekday,
      'departure_minute', departure_minute,
      'arrival_minute', arrival_minute,
      'block_minutes', block_minutes,
      'distance', distance,
      'aircraft_age_28d', aircraft_age_28d,
      'seats_28d', seats_28d,
      'temp', temp,
      'dewp', dewp,
      'humid', humid,
      'wind_speed', wind_speed,
      'precip', precip,
      'pressure', pressure,
      'visib', visib,
      'most_humid_6h', most_humid_6h,
      'most_wind_speed_6h', most_wind_speed_6h,
      'most_precip_6h', most_precip_6h,
      'least_pressure_6h', least_pressure_6h,
      'least_visib_6h', least_visib_6h,
      'departures_3h_before', departures_3h_before,
      'departures_so_far', departures_so_far,
      'departures_today', departures_today,
      'carrier_departures_today', carrier_departures_today,
      'airport_late_3d', airport_late_3d,
      'airport_late_7d', airport_late_7d,
      'hour_late_7d', hour_late_7d,
      'hour_late_28d', hour_late_28d,
      'carrier_late_7d', carrier_late_7d,
      'dest_late_28d', dest_late_28d,
      'number_late_28d', number_late_28d,
      'airport_delay_1d', airport_delay_1d,
      'carrier_delay_1d', carrier_delay_1d,
      'dest_delay_1d', dest_delay_1d,
      'number_delay_1d', number_delay_1d,
      'number_delay_7d', number_delay_7d,
      'number_delay_28d', number_delay_28d
    ),
    returnType => 'STRUCT<probability: FLOAT>'
  ).probability AS probability
FROM main.flights.features
ORDER BY probability DESC;
