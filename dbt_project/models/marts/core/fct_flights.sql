{{
    config(
        materialized='incremental',
        incremental_strategy='replace_range',
        on_schema_change='fail',
        partition_by=day_partitioned_by('flight_date'),
        cluster_by=clustered_as('flights')
    )
}}

with flights as (
    select *
    from {{ ref('stg_flights') }}
    where {{ in_partition_range('flight_date') }}
),

weather as (
    select *
    from {{ ref('stg_weather') }}
    where {{ in_partition_range('observation_date') }}
)

select
    flights.flight_date,
    flights.carrier,
    flights.flight,
    flights.origin,
    flights.destination,
    flights.tail_number,
    flights.scheduled_departure_at,
    {{ add_minutes('flights.scheduled_departure_at', 'flights.departure_delay_minutes') }} as departed_at,
    flights.departure_delay_minutes,
    flights.arrival_delay_minutes,
    flights.air_time_minutes,
    flights.distance_miles,

    flights.departure_time is null as is_cancelled,
    flights.departure_time is not null and flights.arrival_delay_minutes is null as is_diverted,
    flights.departure_time is not null and flights.arrival_delay_minutes is not null as is_completed,
    coalesce(flights.departure_delay_minutes >= 15, false) as is_departure_delayed,
    coalesce(flights.arrival_delay_minutes >= 15, false) as is_arrival_delayed,

    airports.airport is not null as has_known_destination,
    aircraft.tail_number is not null as has_known_aircraft,
    aircraft.manufacturer as aircraft_manufacturer,
    aircraft.model as aircraft_model,
    aircraft.seats as aircraft_seats,
    extract(year from flights.flight_date) - aircraft.manufactured_year as aircraft_age_years,

    weather.origin is not null as has_weather,
    case
        when weather.origin is null then 'unknown'
        when weather.visibility_miles < 3 then 'low visibility'
        when weather.precipitation_inches > 0 then 'precipitation'
        when weather.wind_speed_mph >= 20 or weather.wind_gust_mph >= 30 then 'strong wind'
        else 'fair'
    end as weather_condition,
    weather.temperature_f,
    weather.wind_speed_mph,
    weather.wind_gust_mph,
    weather.precipitation_inches,
    weather.visibility_miles,

    flights.load_id,
    flights.loaded_at
from flights
left join weather
    on flights.flight_date = weather.observation_date
    and flights.origin = weather.origin
    and flights.scheduled_hour = weather.observed_hour
left join {{ ref('dim_airports') }} as airports
    on flights.destination = airports.airport
left join {{ ref('dim_aircraft') }} as aircraft
    on flights.tail_number = aircraft.tail_number
