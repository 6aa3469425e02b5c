{# The mean of a column lies between two bounds in every group, for instance on every day. #}
{% test mean_in_range(model, column_name, by, min_value, max_value) %}
    select
        {{ by | join(', ') }},
        count(*) as row_count,
        avg({{ column_name }}) as mean
    from {{ model }}
    group by {{ by | join(', ') }}
    having avg({{ column_name }}) not between {{ min_value }} and {{ max_value }}
{% endtest %}
