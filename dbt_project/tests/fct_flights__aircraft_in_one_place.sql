with departures as (
    select
        *,
        lag(departed_at) over (partition by tail_number order by departed_at) as previous_departed_at,
        lag(air_time_minutes) over (partition by tail_number order by departed_at) as previous_air_time_minutes
    from {{ ref('fct_flights') }}
    where {{ in_partition_range('flight_date') }}
        and tail_number is not null
        and departed_at is not null
)

select *
from departures
where departed_at < {{ add_minutes('previous_departed_at', 'previous_air_time_minutes') }}
