{#
    dbt's four built-in tests, returning whole failing rows instead of values or groups: a failure can then be traced
    to its day and its load, and failures are counted in rows.
#}
{% macro default__test_not_null(model, column_name) %}
    select *
    from {{ model }}
    where {{ column_name }} is null
{% endmacro %}

{% macro default__test_unique(model, column_name) %}
    {{ repeated_rows(model, [column_name]) }}
{% endmacro %}

{% macro default__test_accepted_values(model, column_name, values, quote=true) %}
    {%- set mark = "'" if quote else '' %}
    select *
    from {{ model }}
    where {{ column_name }} not in ({{ mark }}{{ values | join(mark ~ ', ' ~ mark) }}{{ mark }})
{% endmacro %}

{% macro default__test_relationships(model, column_name, to, field) %}
    with child as (
        select *
        from {{ model }}
        where {{ column_name }} is not null
    )

    select child.*
    from child
    left join {{ to }} as parent
        on child.{{ column_name }} = parent.{{ field }}
    where parent.{{ field }} is null
{% endmacro %}

{# The rows that share their key with another row; a key with a null is no key. #}
{% macro repeated_rows(model, columns) %}
    with tested as (
        select *
        from {{ model }}
    ),

    repeated as (
        select {{ columns | join(', ') }}
        from tested
        group by {{ columns | join(', ') }}
        having count(*) > 1
    )

    select tested.*
    from tested
    inner join repeated
        on true
        {%- for column in columns %}
        and tested.{{ column }} = repeated.{{ column }}
        {%- endfor %}
{% endmacro %}
