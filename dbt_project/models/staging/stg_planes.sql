select
    tailnum as tail_number,
    year as manufactured_year,
    type as aircraft_type,
    manufacturer,
    model,
    engines as engine_count,
    engine as engine_type,
    seats,
    speed as cruising_speed_mph
from {{ source('staging', 'planes') }}
