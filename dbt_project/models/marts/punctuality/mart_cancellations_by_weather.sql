{{
    config(
        materialized='incremental',
        incremental_strategy='replace_range',
        on_schema_change='fail',
        partition_by=day_partitioned_by('flight_date'),
        cluster_by=['origin', 'weather_condition']
    )
}}

with daily as (
    select
        flight_date,
        origin,
        weather_condition,
        count(*) as scheduled_departures,
        {{ count_where('is_cancelled') }} as cancelled_flights,
        avg(departure_delay_minutes) as mean_departure_delay_minutes,
        -- Rounded: a sum of floats depends on the order of the rows, a rebuild should not.
        round(avg(wind_speed_mph), 2) as mean_wind_speed_mph,
        round(avg(visibility_miles), 2) as mean_visibility_miles,
        round(avg(precipitation_inches), 4) as mean_precipitation_inches
    from {{ ref('fct_flights') }}
    where {{ in_partition_range('flight_date') }}
    group by flight_date, origin, weather_condition
)

select
    flight_date,
    origin,
    weather_condition,
    scheduled_departures,
    cancelled_flights,
    cancelled_flights / scheduled_departures as cancellation_rate,
    mean_departure_delay_minutes,
    mean_wind_speed_mph,
    mean_visibility_miles,
    mean_precipitation_inches
from daily
