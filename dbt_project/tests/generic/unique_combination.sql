{# No two rows share the values of `columns`. #}
{% test unique_combination(model, columns) %}
    {{ repeated_rows(model, columns) }}
{% endtest %}
