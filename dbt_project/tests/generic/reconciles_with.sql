{#
    Aggregates of the model equal aggregates of another relation, group by group; a group that only one of them has
    fails too. `measures` maps an aggregate of the model to its counterpart in `compare_to`. The first column of `by`
    must be the partition field when the model is partitioned: it limits the other relation to the days of the run.
#}
{% test reconciles_with(model, compare_to, by, measures) %}
    with actual as (
        select
            {{ by | join(', ') }}
            {%- for measure in measures %},
            {{ measure }} as actual_{{ loop.index }}
            {%- endfor %}
        from {{ model }}
        group by {{ by | join(', ') }}
    ),

    expected as (
        select
            {{ by | join(', ') }}
            {%- for measure in measures.values() %},
            {{ measure }} as expected_{{ loop.index }}
            {%- endfor %}
        from {{ compare_to }}
        where {{ in_partition_range(by[0]) }}
        group by {{ by | join(', ') }}
    )

    select *
    from actual
    full outer join expected using ({{ by | join(', ') }})
    where false
        {%- for measure in measures %}
        or actual_{{ loop.index }} is distinct from expected_{{ loop.index }}
        {%- endfor %}
{% endtest %}
