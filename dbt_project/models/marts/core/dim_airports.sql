select
    airport,
    airport_name,
    latitude,
    longitude,
    altitude_feet,
    utc_offset_hours,
    daylight_saving,
    time_zone
from {{ ref('stg_airports') }}
