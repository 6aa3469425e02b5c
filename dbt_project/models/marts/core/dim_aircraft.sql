select
    tail_number,
    aircraft_type,
    -- The registry spells some manufacturers in several ways.
    case
        when manufacturer like 'AIRBUS%' then 'AIRBUS'
        when manufacturer like 'CANADAIR%' then 'CANADAIR'
        when manufacturer like 'MCDONNELL DOUGLAS%' then 'MCDONNELL DOUGLAS'
        else manufacturer
    end as manufacturer,
    model,
    manufactured_year,
    engine_type,
    engine_count,
    seats,
    cruising_speed_mph
from {{ ref('stg_planes') }}
