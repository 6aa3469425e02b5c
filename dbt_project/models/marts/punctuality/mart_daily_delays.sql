{{
    config(
        materialized='incremental',
        incremental_strategy='replace_range',
        on_schema_change='fail',
        partition_by=day_partitioned_by('flight_date'),
        cluster_by=['carrier', 'origin']
    )
}}

with daily as (
    select
        flight_date,
        carrier,
        origin,
        count(*) as scheduled_departures,
        {{ count_where('not is_cancelled') }} as actual_departures,
        {{ count_where('is_completed') }} as completed_flights,
        {{ count_where('is_diverted') }} as diverted_flights,
        {{ count_where('is_cancelled') }} as cancelled_flights,
        {{ count_where('is_departure_delayed') }} as delayed_departures,
        {{ count_where('is_arrival_delayed') }} as delayed_arrivals,
        avg(departure_delay_minutes) as mean_departure_delay_minutes,
        {{ percentile('departure_delay_minutes', 50) }} as median_departure_delay_minutes,
        {{ percentile('departure_delay_minutes', 90) }} as p90_departure_delay_minutes,
        avg(arrival_delay_minutes) as mean_arrival_delay_minutes,
        {{ percentile('arrival_delay_minutes', 50) }} as median_arrival_delay_minutes,
        {{ percentile('arrival_delay_minutes', 90) }} as p90_arrival_delay_minutes
    from {{ ref('fct_flights') }}
    where {{ in_partition_range('flight_date') }}
    group by flight_date, carrier, origin
)

select
    daily.flight_date,
    daily.carrier,
    carriers.carrier_name,
    daily.origin,
    daily.scheduled_departures,
    daily.actual_departures,
    daily.completed_flights,
    daily.diverted_flights,
    daily.cancelled_flights,
    daily.cancelled_flights / daily.scheduled_departures as cancellation_rate,
    daily.mean_departure_delay_minutes,
    daily.median_departure_delay_minutes,
    daily.p90_departure_delay_minutes,
    daily.delayed_departures,
    daily.delayed_departures / nullif(daily.actual_departures, 0) as delayed_departure_rate,
    daily.mean_arrival_delay_minutes,
    daily.median_arrival_delay_minutes,
    daily.p90_arrival_delay_minutes,
    daily.delayed_arrivals,
    daily.delayed_arrivals / nullif(daily.completed_flights, 0) as delayed_arrival_rate
from daily
left join {{ ref('dim_carriers') }} as carriers
    on daily.carrier = carriers.carrier
