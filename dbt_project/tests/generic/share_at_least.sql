{# In every group, for instance on every day, at least this share of the rows satisfies the condition. #}
{% test share_at_least(model, condition, by, min_share) %}
    select
        {{ by | join(', ') }},
        count(*) as row_count,
        {{ count_where(condition) }} / count(*) as share
    from {{ model }}
    group by {{ by | join(', ') }}
    having {{ count_where(condition) }} / count(*) < {{ min_share }}
{% endtest %}
